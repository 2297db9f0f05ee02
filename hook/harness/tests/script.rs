//! Scripts: what is understood, and how what is not understood is told.

use proptest::prelude::*;
use volhook_harness::script::Action;
use volhook_harness::script::Must;
use volhook_harness::script::Script;
use volhook_harness::script::VERBS;

#[test]
fn a_script_is_read_whole_before_anything_runs() {
    let script = Script::parse(
        "runtime fake runc\nas crun\nbundle b\n[crun] fails create c1 b\nwithin 5s expect no file x\n-- h.sh --\n#!/bin/sh\n",
    )
    .unwrap();
    assert_eq!(script.statements.len(), 3);
    assert_eq!(script.statements[1].must, Must::Fail);
    assert_eq!(script.statements[1].conditions[0].name, "crun");
    assert!(matches!(script.statements[2].action, Action::Expect(_)));
    assert_eq!(script.files[0].path, "h.sh");
}

#[test]
fn mistakes_are_told_with_their_place_and_what_was_meant() {
    for (text, message) in [
        ("bundel b", "1:1: \"bundel\" is not a statement; \"bundle\" is"),
        ("\n  hook prestrat ./x", "2:8: \"prestrat\" is not a stage; \"prestart\" is"),
        ("hook prestart timeout=x ./x", "1:15: timeout= is a number of seconds above 0"),
        ("hook prestart timeout=3", "1:24: a program is missing"),
        ("expect stdot is x", "1:8: \"stdot\" is not something to expect; \"stdout\" is"),
        (
            "expect stdout equals x",
            "1:15: \"equals\" is not a comparison: there are is, contains, lacks, matches, empty",
        ),
        ("expect stdout matches /(/", "1:23: this is no regular expression"),
        ("expect exit zero", "1:13: \"zero\" is not an exit status"),
        ("fails expect exit 0", "1:1: only a command can fail"),
        ("within 5s create c1", "1:1: only `expect` can be tried again"),
        ("create c1 b x", "1:13: x is one word too many"),
        ("create c1 <<END\nEND", "1:1: this statement takes no block of text"),
        ("sleep 5", "1:7: \"5\" is no duration: write 5ms, 2s or 1m"),
        ("[winc] create c1", "1:1: \"winc\" is not a condition"),
        ("runtime runq", "1:9: \"runq\" is not a runtime; \"runc\" is"),
        ("kill-hook prestart at 5ms", "1:20: \"at\" is neither after nor when"),
        ("state spaces 2048M", "1:14: \"2048M\" is no size"),
        ("state pid", "1:7: a field is written KEY=VALUE"),
    ] {
        let error = Script::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text:?}: {error}");
    }
}

#[test]
fn every_statement_of_the_table_is_known() {
    for (verb, ..) in VERBS {
        if let Err(error) = Script::parse(verb) {
            assert!(!error.message.contains("is not a statement"), "{verb}: {error}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "(?s).{0,300}") {
        let _ = Script::parse(&text);
    }

    #[test]
    fn no_words_of_a_script_make_it_panic(
        words in prop::collection::vec(
            prop_oneof![
                prop::sample::select(VERBS.iter().map(|(verb, ..)| *verb).collect::<Vec<_>>()),
                prop::sample::select(vec![
                    "c1", "prestart", "timeout=1", "env=A=b", "5ms", "is", "<<END", "END", "\n", "$X", "''", "[crun]",
                    "no", "file", "lease", "mount", "in=c1", "stdout", "matches", "/x/", "without", "spaces", "9M", "fails",
                ]),
            ],
            0..12,
        )
    ) {
        let _ = Script::parse(&words.join(" "));
    }
}
