//! The fixtures of a new project: its questions and the right answers, which are the same in all languages.

use volhook_core::decision::PluginKind;

macro_rules! shipped {
    ($kind:literal, $name:literal) => {
        (
            concat!("fixtures/", $name, ".toml"),
            include_str!(concat!("../../languages/common/fixtures/", $kind, "/", $name, ".toml")),
        )
    };
}

/// Path relative to the project, and content.
pub(crate) fn of(kind: PluginKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        PluginKind::Driver => &[
            shipped!("driver", "create-defaults"),
            shipped!("driver", "create-mode"),
            shipped!("driver", "create-no-mode"),
            shipped!("driver", "attach-shared"),
            shipped!("driver", "attach-exclusive"),
        ],
        PluginKind::Policy => &[
            shipped!("policy", "pod"),
            shipped!("policy", "target"),
            shipped!("policy", "no-pod"),
            shipped!("policy", "relative"),
        ],
    }
}
