//! The reference of a version, for people: its interfaces as Markdown, from the documentation in the WIT.

use super::Body;
use super::Definition;
use super::Function;
use super::Interface;
use super::Member;
use super::Package;
use super::Shape;
use super::World;
use super::line;

impl Package {
    /// The reference.
    pub(crate) fn reference(&self) -> String {
        let mut text = format!(
            "# {}\n\nThis page is made of the WIT files beside it by `cargo xtask reference`. What the calls mean in time, \
             and what volhook makes sure of, is in [the contract](../../hook/docs/plugins-contract.md).\n\n{}\n",
            self.name, self.docs
        );
        for Interface { name, types, functions, .. } in &self.interfaces {
            let list = |names: &mut dyn Iterator<Item = &str>| {
                names.map(|item| link(name, item)).collect::<Vec<_>>().join(", ")
            };
            line(&mut text, format_args!("\n- **[{name}](#{name})**"));
            line(
                &mut text,
                format_args!("  - functions: {}", list(&mut functions.iter().map(|f| f.name.as_str()))),
            );
            line(&mut text, format_args!("  - types: {}", list(&mut types.iter().map(|t| t.name.as_str()))));
        }
        for interface in &self.interfaces {
            interface.write(&mut text);
        }
        line(&mut text, format_args!("\n## Worlds\n"));
        for World { name, docs, items } in &self.worlds {
            line(&mut text, format_args!("- `{name}`: `{}`. {}", items.join("`, `"), one_line(docs)));
        }
        text
    }
}

impl Interface {
    fn write(&self, text: &mut String) {
        line(text, format_args!("\n## {}\n\n{}", self.name, self.docs));
        for function in &self.functions {
            let Function { name, docs, parameters, result } = function;
            let signature = function.signature(&str::to_owned);
            line(text, format_args!("\n### {name} ({})\n\n```wit\n{signature}\n```\n\n{docs}", self.name));
            let asked = parameters.iter().map(|(_, shape)| self.words(shape));
            let asked: Vec<String> = asked.map(|words| format!("Asked: {words}. ")).collect();
            let answered = result.as_ref().map_or("nothing".to_owned(), |shape| self.words(shape));
            line(text, format_args!("\n{}Answered: {answered}.", asked.concat()));
        }
        for Definition { name, docs, body } in &self.types {
            line(text, format_args!("\n### {name} ({})\n\n{docs}\n", self.name));
            match body {
                Body::Alias(shape) => line(text, format_args!("It is a {}.", self.words(shape))),
                Body::Record(members) => {
                    line(text, format_args!("| field | type | |\n|---|---|---|"));
                    self.rows(text, members);
                }
                Body::Variant(members) => {
                    line(text, format_args!("| case | with | |\n|---|---|---|"));
                    self.rows(text, members);
                }
                Body::Enum(members) => {
                    line(text, format_args!("| case | |\n|---|---|"));
                    for Member { name, docs, .. } in members {
                        line(text, format_args!("| `{name}` | {} |", cell(docs)));
                    }
                }
            }
        }
    }

    fn rows(&self, text: &mut String, members: &[Member]) {
        for Member { name, docs, shape } in members {
            let shape = shape.as_ref().map_or("–".to_owned(), |shape| self.words(shape));
            line(text, format_args!("| `{name}` | {shape} | {} |", cell(docs)));
        }
    }

    /// A type in words, with links to those that have a name.
    fn words(&self, shape: &Shape) -> String {
        match shape {
            Shape::Word(word) => format!("`{word}`"),
            Shape::Named(name) => link(&self.name, name),
            Shape::Nothing => "nothing".to_owned(),
            Shape::Of(what, shapes) => {
                let inner: Vec<String> = shapes.iter().map(|shape| self.words(shape)).collect();
                match *what {
                    "option" => format!("{}, or none", inner.concat()),
                    "result" => inner.join(" or "),
                    what => format!("{what} of {}", inner.join(" and ")),
                }
            }
        }
    }
}

/// A link to what `interface` calls `name`, by the anchor that its title gets.
fn link(interface: &str, name: &str) -> String {
    format!("[{name}](#{name}-{interface})")
}

fn one_line(docs: &str) -> String {
    docs.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(docs: &str) -> String {
    one_line(docs).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::workspace;
    use crate::wit::frozen;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn it_is_up_to_date() {
        let wit = workspace().join("wit");
        for version in frozen::versions(&wit).unwrap() {
            let folder = wit.join(&version);
            let written = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
            let made = Package::read(&folder).unwrap().reference();
            assert!(
                written == made,
                "wit/{version}/README.md is not up to date: run `cargo xtask reference`"
            );
        }
    }

    /// As GitHub makes anchors of titles: small letters, hyphens for blanks, punctuation left out.
    fn anchor(title: &str) -> String {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | ' '));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    }

    #[test]
    fn every_link_leads_to_one_place() {
        let text = Package::read(&workspace().join("wit/0.1.0")).unwrap().reference();
        let titles = text.lines().filter(|line| line.starts_with("##"));
        let anchors: Vec<String> = titles.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
        let unique: BTreeSet<&String> = anchors.iter().collect();
        assert_eq!(unique.len(), anchors.len(), "two titles have one anchor");
        let links: Vec<&str> = text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(links.len() > 100);
        for link in links {
            assert!(unique.iter().any(|anchor| *anchor == link), "nothing has the anchor {link}");
        }
    }

    #[test]
    fn all_that_is_defined_is_documented() {
        let package = Package::read(&workspace().join("wit/0.1.0")).unwrap();
        let mut bare = Vec::new();
        for interface in &package.interfaces {
            bare.extend(interface.functions.iter().filter(|f| f.docs.is_empty()).map(|f| f.name.clone()));
            for Definition { name, docs, body } in &interface.types {
                let (Body::Record(members) | Body::Variant(members) | Body::Enum(members)) = body else {
                    continue;
                };
                let members = members.iter().map(|member| (format!("{name}.{}", member.name), &member.docs));
                let all = members.chain([(name.clone(), docs)]);
                bare.extend(all.filter(|(_, docs)| docs.is_empty()).map(|(name, _)| name));
            }
        }
        assert_eq!(bare, [""; 0], "these have no documentation");
    }
}
