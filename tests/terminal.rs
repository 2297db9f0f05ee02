//! What people see on a terminal: tables that fit it, colours, questions; and that a pipe gets none of it.

use anyhow::Result;
use volhook_harness::Output;
use volhook_harness::Program;
use volhook_harness::Volhook;

const LONG: &str = "a-volume-with-a-rather-long-name-as-generators-make-them";

/// Runs a command on a terminal of so many columns, which script(1) makes.
fn on_terminal(volhook: &Volhook, columns: u16, env: &[(&str, &str)], line: &str) -> Result<Output> {
    let line = format!("stty rows 24 cols {columns}; exec {} {line}", volhook.binary().display());
    let mut program = Program::new("script").args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    for (name, value) in volhook.env() {
        program = program.env(name, value);
    }
    for (name, value) in env {
        program = program.env(name, value);
    }
    program.run()
}

/// Two volumes, one of them with a long name.
fn with_volumes() -> Result<Volhook> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "mydb", "-d", "block", "-o", "size=16M"])?.success();
    volhook.run(&["volume", "create", LONG])?.success();
    Ok(volhook)
}

/// What is seen, with times that mean nothing made alike.
const TIMES: [(&str, &str); 2] = [(r"\d{4}-\d\d-\d\d", "2026-01-02"), (r"\d\d:\d\d", "03:04")];

fn seen(output: Output) -> String {
    output.success().replace("\r\n", "\n")
}

#[test]
fn a_table_fits_the_terminal_and_loses_nothing() -> Result<()> {
    let volhook = with_volumes()?;
    let plain = [("NO_COLOR", "1")];
    for columns in [60, 120] {
        let shown = seen(on_terminal(&volhook, columns, &plain, "volume ls")?);
        assert!(shown.lines().all(|line| line.chars().count() <= columns.into()), "{shown}");
        let events = seen(on_terminal(&volhook, columns, &plain, "events")?);
        assert!(events.lines().all(|line| line.chars().count() <= columns.into()), "{events}");
    }
    let long = "volume ls --filter name=-long-";
    let narrow = seen(on_terminal(&volhook, 60, &plain, long)?);
    let wide = seen(on_terminal(&volhook, 120, &plain, long)?);
    insta::with_settings!({ filters => TIMES }, {
        insta::assert_snapshot!(narrow, @r"
        NAME          DRIVER   SIZE   LIMIT   HELD BY   CREATED
        a-volume-wi   local    4K     -       -         2026-01-02
        th-a-rather                                     03:04
        -long-name-
        as-generato
        rs-make-the
        m
        ");
        insta::assert_snapshot!(wide, @r"
        NAME                                                       DRIVER   SIZE   LIMIT   HELD BY   CREATED
        a-volume-with-a-rather-long-name-as-generators-make-them   local    4K     -       -         2026-01-02 03:04
        ");
    });
    // A terminal that does not say how wide it is, and one too narrow for any table, get whole lines.
    for columns in [0, 30] {
        let shown = on_terminal(&volhook, columns, &plain, "volume ls")?.success();
        assert!(shown.contains(LONG), "{shown}");
    }
    let piped = volhook.run(&["volume", "ls"])?.success();
    assert!(piped.contains(LONG) && piped.lines().count() == 3, "{piped}");
    Ok(())
}

#[test]
fn colours_are_for_terminals_that_want_them() -> Result<()> {
    let volhook = with_volumes()?;
    let coloured = |text: &str| text.contains('\u{1b}');
    for line in ["volume ls", "volume inspect nope", "volume frobnicate"] {
        let shown =
            |env: &[(&str, &str)]| -> Result<String> { Ok(on_terminal(&volhook, 120, env, line)?.stdout) };
        assert!(coloured(&shown(&[])?), "{line} on a terminal: {}", shown(&[])?);
        for never in [[("NO_COLOR", "1")], [("TERM", "dumb")], [("CLICOLOR", "0")]] {
            assert!(!coloured(&shown(&never)?), "{line} with {never:?}: {}", shown(&never)?);
        }
        assert!(!coloured(&shown(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")])?), "{line}: NO_COLOR wins");
        let args: Vec<&str> = line.split(' ').collect();
        let piped = volhook.run(&args)?;
        assert!(!coloured(&piped.stdout) && !coloured(&piped.stderr), "{line} through a pipe: {piped}");
        let forced = volhook.command(&args).env("CLICOLOR_FORCE", "1").run()?;
        assert!(coloured(&forced.stdout) || coloured(&forced.stderr), "{line} forced: {forced}");
    }
    let error = on_terminal(&volhook, 120, &[], "volume inspect nope")?.stdout;
    assert!(error.contains("\u{1b}[1m\u{1b}[31mError:\u{1b}[0m no such volume"), "{error:?}");
    assert!(error.contains("hint:\u{1b}[0m `volhook volume ls`"), "{error:?}");
    Ok(())
}
