//! `--format TEMPLATE`: text with `{{.Field}}` in it, as docker's users write it.

use volhook_engine::Failure;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Parses a template in which only `fields` may be named.
    pub(crate) fn parse(text: &str, fields: &[&str]) -> Result<Self, Failure> {
        // A shell hands these on as they are.
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, behind)) = rest.split_once("{{") {
            let known = || {
                format!(
                    "fields: {}",
                    fields.iter().map(|f| format!("{{{{.{f}}}}}")).collect::<Vec<_>>().join(" ")
                )
            };
            let Some((inside, behind)) = behind.split_once("}}") else {
                return Err(Failure::usage("the template has a \"{{\" without \"}}\"").hint(known()));
            };
            let field = inside.trim().strip_prefix('.').filter(|field| fields.contains(field));
            let Some(field) = field else {
                let failure = Failure::usage(format!("the template has no field {:?}", inside.trim()));
                return Err(failure.hint(known()));
            };
            parts.extend([Part::Text(before.to_owned()), Part::Field(field.to_owned())]);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text with the fields' values in it.
    pub(crate) fn render(&self, value: impl Fn(&str) -> String) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Field(field) => value(field),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn fields_are_replaced() {
        let template = Template::parse("{{.Name}}\\t{{ .Size }} of {{.Name}}", &["Name", "Size"]).unwrap();
        assert_eq!(template.render(|field| format!("<{field}>")), "<Name>\t<Size> of <Name>");
        assert_eq!(Template::parse("plain", &[]).unwrap().render(|_| String::new()), "plain");
    }

    #[test]
    fn what_is_no_field_is_named() {
        for (text, part) in [("{{.Color}}", ".Color"), ("{{Name}}", "Name"), ("{{.Name", "without")] {
            let failure = Template::parse(text, &["Name"]).unwrap_err();
            assert!(failure.cause_line().contains(part), "{failure:?}");
            assert!(failure.hints[0].contains("{{.Name}}"), "{failure:?}");
        }
    }
}
