//! The shape of questions and answers as fixtures have them: every field, what it takes, and what it is when left out.
//!
//! The names are those of the JSON of [`volhook_core::question`], to which a test holds these tables.

use serde_json::Value;
use serde_json::json;

/// What a field takes.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A text.
    Text,
    /// A whole number, not negative.
    Number,
    /// The same, of 32 bits.
    Id,
    /// A whole number that people write in octal.
    Mode,
    /// `true` or `false`.
    Boolean,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Names and values in order.
    Pairs,
    /// A name and a value.
    Pair,
    /// Something or nothing.
    Optional(&'static Shape),
    /// Any number of these.
    List(&'static Shape),
    /// Fields.
    Record(&'static [Field]),
    /// Exactly one of these, by name.
    OneOf(&'static [(&'static str, &'static Shape)]),
    /// What values an option takes: a word, or `{ choice = […] }`.
    OptionKind,
}

/// A field of a record.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static Shape,
    default: Preset,
}

/// What a field is when left out.
#[derive(Debug, Clone, Copy)]
enum Preset {
    Required,
    Null,
    Empty,
    Text(&'static str),
    Number(u64),
    False,
    /// A record of nothing but defaults.
    Defaults,
    /// A directory with its defaults.
    Directory,
}

impl Field {
    /// The value of the field when left out; none where it must not be.
    pub(crate) fn default(&self) -> Option<Value> {
        Some(match self.default {
            Preset::Required => return None,
            Preset::Null => Value::Null,
            Preset::Empty => json!([]),
            Preset::Text(text) => json!(text),
            Preset::Number(number) => json!(number),
            Preset::False => json!(false),
            Preset::Defaults => self.shape.defaults(),
            Preset::Directory => json!({ "directory": DIRECTORY.defaults() }),
        })
    }
}

impl Shape {
    /// A record in which everything is left out that may be.
    pub(crate) fn defaults(&self) -> Value {
        match self {
            Self::Record(fields) => fields
                .iter()
                .filter_map(|field| Some((field.name.to_owned(), field.default()?)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            _ => Value::Null,
        }
    }
}

const fn field(name: &'static str, shape: &'static Shape, default: Preset) -> Field {
    Field { name, shape, default }
}

use Preset::Defaults;
use Preset::Empty;
use Preset::False;
use Preset::Null;
use Preset::Required;

const TEXT: &Shape = &Shape::Text;
const NUMBER: &Shape = &Shape::Number;
const BOOLEAN: &Shape = &Shape::Boolean;
const PAIRS: &Shape = &Shape::Pairs;
const TEXTS: &Shape = &Shape::List(TEXT);
const OPTIONAL_TEXT: &Shape = &Shape::Optional(TEXT);
const OPTIONAL_NUMBER: &Shape = &Shape::Optional(NUMBER);
const ACCESS: &Shape = &Shape::Choice(&["read-only", "read-write"]);
const SHARINGS: Shape = Shape::Choice(&["shared", "single-writer", "exclusive"]);
const SHARING: &Shape = &SHARINGS;
const FILESYSTEM: &Shape = &Shape::Choice(&["ext4", "xfs", "btrfs"]);
const POPULATION: &Shape = &Shape::Choice(&["overlay", "copy", "empty"]);

static CONTAINER: Shape = Shape::Record(&[
    field("id", TEXT, Preset::Text("c1")),
    field("tenant", TEXT, Preset::Text("default")),
    field("pod", OPTIONAL_TEXT, Null),
]);

static LABEL_USAGE: Shape = Shape::Record(&[
    field("label", &Shape::Pair, Required),
    field("volumes", NUMBER, Preset::Number(0)),
    field("bytes", NUMBER, Preset::Number(0)),
]);

static USAGE: Shape = Shape::Record(&[
    field("volumes", NUMBER, Preset::Number(0)),
    field("bytes", NUMBER, Preset::Number(0)),
    field("labels", &Shape::List(&LABEL_USAGE), Empty),
]);

static HOLDER: Shape = Shape::Record(&[
    field("container", TEXT, Preset::Text("c2")),
    field("access", ACCESS, Preset::Text("read-write")),
    field("sharing", SHARING, Preset::Text("shared")),
]);

static ROOT_ENTRY: Shape = Shape::Record(&[
    field("name", TEXT, Required),
    field("kind", &Shape::Choice(&["directory", "file", "symlink", "other"]), Preset::Text("directory")),
]);

static POD_STATE: Shape = Shape::Record(&[
    field("population", POPULATION, Preset::Text("overlay")),
    field("image", &Shape::Choice(&["same", "changed", "unknown"]), Preset::Text("same")),
    field("installed", BOOLEAN, False),
]);

static CREATE: Shape = Shape::Record(&[
    field("volume", TEXT, Preset::Text("v")),
    field("tenant", TEXT, Preset::Text("default")),
    field("pod", OPTIONAL_TEXT, Null),
    field("options", PAIRS, Empty),
    field("labels", PAIRS, Empty),
    field("settings", PAIRS, Empty),
    field("usage", &USAGE, Defaults),
]);

static ATTACH: Shape = Shape::Record(&[
    field("volume", TEXT, Preset::Text("v")),
    field("options", PAIRS, Empty),
    field("labels", PAIRS, Empty),
    field("container", &CONTAINER, Defaults),
    field("holders", &Shape::List(&HOLDER), Empty),
    field("access", ACCESS, Preset::Text("read-write")),
    field("settings", PAIRS, Empty),
]);

static CLAIMS: Shape = Shape::Record(&[
    field("container", &CONTAINER, Defaults),
    field("rootfs", &Shape::List(&ROOT_ENTRY), Empty),
    field("settings", PAIRS, Empty),
    field("pod", &Shape::Optional(&POD_STATE), Null),
    field("no_overlay", OPTIONAL_TEXT, Null),
]);

static OPTION: Shape = Shape::Record(&[
    field("name", TEXT, Required),
    field("kind", &Shape::OptionKind, Preset::Text("text")),
    field("default", OPTIONAL_TEXT, Null),
    field("about", TEXT, Required),
]);

static INFO: Shape = Shape::Record(&[
    field("name", TEXT, Required),
    field("about", TEXT, Required),
    field("options", &Shape::List(&OPTION), Empty),
    field("settings", &Shape::List(&OPTION), Empty),
]);

static DIRECTORY: Shape = Shape::Record(&[
    field("mode", &Shape::Mode, Preset::Number(0o755)),
    field("uid", &Shape::Id, Preset::Number(0)),
    field("gid", &Shape::Id, Preset::Number(0)),
]);

static IMAGE: Shape = Shape::Record(&[
    field("size", NUMBER, Required),
    field("filesystem", FILESYSTEM, Preset::Text("ext4")),
    field("root", &DIRECTORY, Defaults),
    field("mkfs", PAIRS, Empty),
    field("discard", BOOLEAN, False),
    field("preallocated", BOOLEAN, False),
]);

static TMPFS: Shape = Shape::Record(&[
    field("size", OPTIONAL_NUMBER, Null),
    field("inodes", OPTIONAL_NUMBER, Null),
    field("root", &DIRECTORY, Defaults),
]);

static HOST_PATH: Shape = Shape::Record(&[field("path", TEXT, Required)]);

static DEVICE: Shape =
    Shape::Record(&[field("path", TEXT, Required), field("filesystem", FILESYSTEM, Preset::Text("ext4"))]);

static BACKING: Shape = Shape::OneOf(&[
    ("directory", &DIRECTORY),
    ("image", &IMAGE),
    ("tmpfs", &TMPFS),
    ("host_path", &HOST_PATH),
    ("device", &DEVICE),
]);

static CREATION: Shape = Shape::Record(&[
    field("backing", &BACKING, Preset::Directory),
    field("options", PAIRS, Empty),
    field("limit", OPTIONAL_NUMBER, Null),
    field("sharing", &Shape::Optional(SHARING), Null),
    field("notes", TEXTS, Empty),
]);

static FLAGS: Shape = Shape::Record(&[
    field("nosuid", BOOLEAN, False),
    field("nodev", BOOLEAN, False),
    field("noexec", BOOLEAN, False),
]);

static ATTACHMENT: Shape = Shape::Record(&[
    field("access", ACCESS, Preset::Text("read-write")),
    field("sharing", SHARING, Preset::Text("shared")),
    field("flags", &FLAGS, Defaults),
    field("notes", TEXTS, Empty),
]);

static CLAIM: Shape = Shape::Record(&[
    field("volume", TEXT, Required),
    field("member", TEXT, Required),
    field("target", TEXT, Required),
    field("driver", OPTIONAL_TEXT, Null),
    field("options", PAIRS, Empty),
    field("labels", PAIRS, Empty),
    field("access", ACCESS, Preset::Text("read-write")),
    field("subpath", OPTIONAL_TEXT, Null),
    field("no_copy", BOOLEAN, False),
]);

static STORAGE: Shape = Shape::Record(&[
    field("volume", TEXT, Required),
    field("driver", OPTIONAL_TEXT, Null),
    field("options", PAIRS, Empty),
    field("labels", PAIRS, Empty),
    field("population", POPULATION, Preset::Text("overlay")),
    field("renew", BOOLEAN, False),
]);

static GRANT: Shape = Shape::Record(&[
    field("storage", &Shape::Optional(&STORAGE), Null),
    field("claims", &Shape::List(&CLAIM), Empty),
    field("notes", TEXTS, Empty),
]);

static REFUSAL: Shape = Shape::Record(&[field("reason", TEXT, Required), field("hint", OPTIONAL_TEXT, Null)]);

/// A call: what it asks, and what it can be answered with.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// None where nothing is asked besides.
    pub(crate) request: Option<&'static Shape>,
    pub(crate) answers: &'static Shape,
}

/// All calls.
pub(crate) static CALLS: [Call; 4] = [
    Call { name: "describe", request: None, answers: &Shape::OneOf(&[("info", &INFO)]) },
    Call {
        name: "create",
        request: Some(&CREATE),
        answers: &Shape::OneOf(&[("creation", &CREATION), ("refusal", &REFUSAL)]),
    },
    Call {
        name: "attach",
        request: Some(&ATTACH),
        answers: &Shape::OneOf(&[("attachment", &ATTACHMENT), ("refusal", &REFUSAL)]),
    },
    Call {
        name: "claims",
        request: Some(&CLAIMS),
        answers: &Shape::OneOf(&[("grant", &GRANT), ("refusal", &REFUSAL)]),
    },
];

/// Any answer.
pub(crate) static ANSWER: Shape = Shape::OneOf(&[
    ("info", &INFO),
    ("creation", &CREATION),
    ("attachment", &ATTACHMENT),
    ("grant", &GRANT),
    ("refusal", &REFUSAL),
]);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_core::question::Answer;
    use volhook_core::question::Question;

    /// Values of a shape, every field of them given.
    pub(crate) fn values(shape: &'static Shape) -> BoxedStrategy<Value> {
        let text = || prop_oneof!["[a-z]{1,6}", "[a-zA-Z0-9 \"'\\\\éß\n\t=#.]{0,12}"];
        match shape {
            Shape::Text => text().prop_map(Value::from).boxed(),
            Shape::Number => (0..=i64::MAX).prop_map(Value::from).boxed(),
            Shape::Id => any::<u32>().prop_map(Value::from).boxed(),
            Shape::Mode => (0..=0o7777_u32).prop_map(Value::from).boxed(),
            Shape::Boolean => any::<bool>().prop_map(Value::from).boxed(),
            Shape::Choice(words) => prop::sample::select(*words).prop_map(Value::from).boxed(),
            Shape::Pair => (text(), text()).prop_map(|(name, value)| json!([name, value])).boxed(),
            Shape::Pairs => prop::collection::vec(values(&Shape::Pair), 0..4).prop_map(Value::from).boxed(),
            Shape::Optional(inner) => prop_oneof![Just(Value::Null), values(inner)].boxed(),
            Shape::List(inner) => prop::collection::vec(values(inner), 0..3).prop_map(Value::from).boxed(),
            Shape::Record(fields) => fields.iter().fold(Just(json!({})).boxed(), |record, field| {
                (record, values(field.shape))
                    .prop_map(|(mut record, value)| {
                        record[field.name] = value;
                        record
                    })
                    .boxed()
            }),
            Shape::OneOf(shapes) => prop::sample::select(*shapes)
                .prop_flat_map(|(name, shape)| values(shape).prop_map(move |value| json!({ name: value })))
                .boxed(),
            Shape::OptionKind => prop_oneof![
                prop::sample::select(vec!["text", "integer", "size", "boolean", "table"])
                    .prop_map(Value::from),
                prop::collection::vec(text(), 0..3).prop_map(|choices| json!({ "choice": choices })),
            ]
            .boxed(),
        }
    }

    /// Whether it has paths, which are more than texts to the core.
    fn with_paths(mut value: Value) -> Value {
        for backing in ["host_path", "device"] {
            if let Some(path) = value.pointer_mut(&format!("/creation/backing/{backing}/path")) {
                *path = "/srv/x".into();
            }
        }
        value
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// serde ignores fields that it does not know: only what comes back as it was is complete on both sides.
        #[test]
        fn answers_are_the_cores(value in values(&ANSWER)) {
            let value = with_paths(value);
            let answer: Answer = serde_json::from_value(value.clone()).unwrap();
            prop_assert_eq!(serde_json::to_value(answer).unwrap(), value);
        }

        #[test]
        fn questions_are_the_cores(
            value in prop::sample::select(&CALLS[1..]).prop_flat_map(|call| {
                let request = values(call.request.expect("only describe has none"));
                request.prop_map(move |request| json!({ "call": call.name, "request": request }))
            }),
        ) {
            let question: Question = serde_json::from_value(value.clone()).unwrap();
            prop_assert_eq!(serde_json::to_value(question).unwrap(), value);
        }
    }

    #[test]
    fn a_question_of_defaults_is_one() {
        for call in &CALLS {
            let value = match call.request {
                Some(shape) => json!({ "call": call.name, "request": shape.defaults() }),
                None => json!({ "call": call.name }),
            };
            let question: Question = serde_json::from_value(value).unwrap();
            assert_eq!(question.call(), call.name);
        }
    }
}
