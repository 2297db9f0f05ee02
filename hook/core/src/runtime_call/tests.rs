//! Tests of reading command lines: as engines write them, as each runtime reads them, and as nobody would.

use super::*;
use options::Command;
use proptest::prelude::*;

fn words(line: &str) -> Vec<&[u8]> {
    line.split_whitespace().map(str::as_bytes).collect()
}

/// Bundle, id and spec, as texts; `None` for a call that starts nothing.
fn call(manner: Manner, line: &str) -> Option<[String; 3]> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let call = read(manner, &words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))?;
    Some([call.bundle.map_or(".".to_owned(), text), text(call.id), call.spec.map_or(String::new(), text)])
}

fn is(bundle: &str, id: &str) -> [String; 3] {
    [bundle.to_owned(), id.to_owned(), String::new()]
}

const ALL: [Manner; 3] = [Manner::Runc, Manner::Crun, Manner::Unknown];

#[test]
fn the_command_lines_of_engines() {
    for manner in ALL {
        for (line, expected) in [
            ("run c1", Some(is(".", "c1"))),
            (
                "--root /r --log /l --log-format json create --bundle /b --pid-file /p c1",
                Some(is("/b", "c1")),
            ),
            ("--systemd-cgroup create -b /b --console-socket /s c1", Some(is("/b", "c1"))),
            ("--root=/r run --bundle=/b -d c1", Some(is("/b", "c1"))),
            ("restore --image-path /i --bundle /b c1", Some(is("/b", "c1"))),
            ("create --bundle /b -- create", Some(is("/b", "create"))),
            ("-- run -b a -b b c1", Some(is("b", "c1"))),
            ("run --keep --no-pivot create", Some(is(".", "create"))),
            ("delete --force create", None),
            ("state c1", None),
            ("--root create list", None),
            ("start run", None),
            ("exec -b /b c1 run c1", None),
            ("--version", None),
            ("--version run c1", None),
            ("run --help c1", None),
            ("run --bundle", None),
            ("run --bundle /b", None),
            ("", None),
            ("kill c1 TERM", None),
        ] {
            assert_eq!(call(manner, line), expected, "{manner:?}: {line}");
        }
    }
}

#[test]
fn one_dash_is_as_good_as_two_to_runc() {
    for (line, expected) in [
        ("-root R run --bundle B w", Some(is("B", "w"))),
        ("-root=R -debug run -bundle B w", Some(is("B", "w"))),
        ("--debug=false run -bundle=B w", Some(is("B", "w"))),
        ("run --b B w", Some(is("B", "w"))),
        ("run w -b B", Some(is("B", "w"))),
        ("run -detach -pid-file P w -bundle B", Some(is("B", "w"))),
        ("run --root R -b B w", Some(is("B", "w"))),
        ("run -b -d w", Some(is("-d", "w"))),
        ("run -b= w", Some(is(".", "w"))),
        ("run -h w", None),
        ("-v run w", None),
    ] {
        assert_eq!(call(Manner::Runc, line), expected, "{line}");
    }
}

#[test]
fn short_options_are_joined_and_long_ones_shortened_for_crun() {
    let spec = |bundle: &str, id: &str, spec: &str| Some([bundle, id, spec].map(str::to_owned));
    for (line, expected) in [
        ("run -b../bundle w", Some(is("../bundle", "w"))),
        ("run -db../bundle w", Some(is("../bundle", "w"))),
        ("run -db ../bundle w", Some(is("../bundle", "w"))),
        ("run -b=B w", Some(is("=B", "w"))),
        ("run --bund DIR w", Some(is("DIR", "w"))),
        ("run --bund=DIR --no-s w", Some(is("DIR", "w"))),
        ("--ro R --log-f json run --p P w", Some(is(".", "w"))),
        ("run -f other.json w", spec(".", "w", "other.json")),
        ("run -dfother.json -b B w", spec("B", "w", "other.json")),
        ("create --conf=/x/y.json w", spec(".", "w", "/x/y.json")),
        ("run --config config.json w", Some(is(".", "w"))),
        ("restore --con S --network-lock nftables w", Some(is(".", "w"))),
        ("restore w ignored", Some(is(".", "w"))),
        ("run -d? w", None),
        ("run --us w", None),
        ("-V run w", None),
    ] {
        assert_eq!(call(Manner::Crun, line), expected, "{line}");
    }
    let unclear = read(Manner::Crun, &words("run --c x w")).unwrap_err();
    assert!(matches!(unclear, CallError::Shortened { .. }), "{unclear}");
}

#[test]
fn what_is_not_known_is_read_both_ways() {
    for manner in ALL {
        for (line, expected) in [
            ("--new run -b B w", Some(is("B", "w"))),
            ("--new x run -b B w", Some(is("B", "w"))),
            ("--new=x run -b B --other w", Some(is("B", "w"))),
            ("run --new x -b B w", Some(is("B", "w"))),
            ("run --new -b B w", Some(is("B", "w"))),
            ("run --new x --newer y -b B w", Some(is("B", "w"))),
            ("--new state c1", None),
        ] {
            assert_eq!(call(manner, line), expected, "{manner:?}: {line}");
        }
        for line in ["--new delete run w", "--new state create -b B w", "--za --zb --zc --zd --ze run w"] {
            let error = read(manner, &words(line)).unwrap_err();
            assert!(matches!(error, CallError::Option { .. }), "{manner:?}: {line}: {error}");
        }
        for line in ["run -b B w sh", "create w -- -b B"] {
            let error = read(manner, &words(line)).unwrap_err();
            assert!(matches!(error, CallError::Arguments { .. }), "{manner:?}: {line}: {error}");
        }
    }
    assert_eq!(
        read(Manner::Unknown, &words("run -bDIR w")),
        Err(CallError::Option { option: "-bDIR".into() })
    );
    assert_eq!(read(Manner::Unknown, &words("run -b=DIR w")), Err(CallError::Manners));
}

#[test]
fn words_that_are_no_text_stay_as_they_are() {
    let args: [&[u8]; 4] = [b"run", b"--bundle", b"/b\xff", b"c1"];
    let call = read(Manner::Crun, &args).unwrap().unwrap();
    assert_eq!(call.bundle.as_deref(), Some(b"/b\xff".as_slice()));
}

/// An option of a command as it may be written: a name, its dashes, and whether its value is in the same word.
#[derive(Debug, Clone)]
struct Written {
    option: prop::sample::Index,
    inline: bool,
    one_dash: bool,
}

fn written() -> impl Strategy<Value = Vec<Written>> {
    let one = (any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
        .prop_map(|(option, inline, one_dash)| Written { option, inline, one_dash });
    prop::collection::vec(one, 0..6)
}

/// Writes options of a list so that a runtime of that manner takes them. What they mean is found again beside the words.
fn write(manner: Manner, options: &Options, written: &[Written], words: &mut Vec<String>) -> Option<String> {
    let mut bundle = None;
    let known: Vec<_> = options.all().iter().filter(|(_, takes)| *takes != Takes::End).collect();
    for (at, Written { option, inline, one_dash }) in written.iter().enumerate() {
        let (name, takes) = option.get(&known);
        let short = name.len() == 1;
        let dashes = match manner {
            Manner::Runc if *one_dash => "-",
            Manner::Runc => "--",
            _ if short => "-",
            _ => "--",
        };
        // A value that looks like an option is one only where it stands behind something that takes none.
        let value = ["v", "--bundle", "-", "run"][at % 4].to_owned() + &at.to_string();
        match (takes, inline) {
            (Takes::Value, true) if short && manner != Manner::Runc => words.push(format!("-{name}{value}")),
            (Takes::Value, true) => words.push(format!("{dashes}{name}={value}")),
            (Takes::Value, false) => words.extend([format!("{dashes}{name}"), value.clone()]),
            _ => words.push(format!("{dashes}{name}")),
        }
        if matches!(*name, "b" | "bundle") {
            bundle = Some(value);
        }
    }
    bundle
}

proptest! {
    #[test]
    fn whatever_is_written_is_found(
        crun in any::<bool>(),
        command in any::<prop::sample::Index>(),
        before in written(),
        behind in written(),
        end in any::<bool>(),
    ) {
        let (manner, lists): (_, fn(Option<Command>) -> Options) =
            if crun { (Manner::Crun, options::crun) } else { (Manner::Runc, options::runc) };
        let (name, command) = *command.get(&Command::ALL);
        let mut line = Vec::new();
        write(manner, &lists(None), &before, &mut line);
        line.push(name.to_owned());
        let bundle = write(manner, &lists(Some(command)), &behind, &mut line);
        line.extend(end.then(|| "--".to_owned()));
        line.push("c1".to_owned());
        let args: Vec<&[u8]> = line.iter().map(String::as_bytes).collect();
        let call = read(manner, &args).unwrap().unwrap();
        prop_assert_eq!(call.id, b"c1");
        prop_assert_eq!(call.bundle, bundle.map(String::into_bytes));
    }

    #[test]
    fn no_words_are_too_odd(
        manner in prop::sample::select(ALL.to_vec()),
        line in prop::collection::vec("(run|create|-{0,3}(b|bund|bundle|d|new|f|config)(=x)?|--|-|x|[ -~]{0,4})", 0..7),
    ) {
        let args: Vec<&[u8]> = line.iter().map(String::as_bytes).collect();
        let _ = read(manner, &args);
    }
}
