//! `volhook driver`: which drivers there are, and which options each takes.

use crate::output::dash;
use crate::output::out;
use crate::output::print_table;
use crate::shape::Shape;
use crate::watch::Watch;
use volhook_api::plugin::Driver;
use volhook_api::plugin::Given;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::Quiet;
use volhook_engine::Work;
use volhook_engine::plugins;

/// `volhook driver ls`.
pub(crate) fn ls(engine: &Engine, watch: &Watch, shape: &Shape) -> Result<(), Failure> {
    let drivers = plugins::drivers(engine, &watch.work())?;
    let rows = drivers.iter().map(|driver| {
        let options: Vec<&str> = driver.options.iter().map(|option| option.name.as_str()).collect();
        vec![driver.name.clone(), dash(Some(options.join(","))), driver.about.clone()]
    });
    shape.print(&drivers, || print_table(&["name", "options", "about"], rows.collect()))
}

/// `volhook driver inspect NAME`.
pub(crate) fn inspect(engine: &Engine, watch: &Watch, name: &str, shape: &Shape) -> Result<(), Failure> {
    let driver = plugins::driver(engine, name, &watch.work())?;
    shape.print_one(&driver, || print_driver(&driver))
}

fn print_driver(driver: &Driver) -> Result<(), Failure> {
    out(&format!("{}: {}\n", driver.name, driver.about))?;
    if driver.options.is_empty() {
        return out("It has no options.\n");
    }
    let rows = driver.options.iter().map(|option| {
        vec![option.name.clone(), kind(option), dash(option.default.clone()), option.about.clone()]
    });
    print_table(&["option", "type", "default", "about"], rows.collect())
}

/// The options of all drivers, for help. A driver that cannot be asked is left out: help is not the place to say so.
pub(crate) fn options(engine: &Engine, watch: &Watch) -> String {
    let drivers = plugins::drivers(engine, &Work { watcher: &Quiet, ..watch.work() }).unwrap_or_default();
    let text = drivers.into_iter().map(|driver| {
        let options = driver.options.into_iter().map(|option| {
            let about = option.about.clone();
            format!("  -o {}\n          {about}\n", volhook_core::options::describe(&option.into()))
        });
        format!("Driver {}: {}\n{}", driver.name, driver.about, options.collect::<String>())
    });
    text.collect::<Vec<_>>().join("\n")
}

/// The type for people: of a choice, what there is to choose.
fn kind(option: &Given) -> String {
    match &option.choices {
        Some(choices) => choices.join("|"),
        None if option.kind == "boolean" => "true|false".to_owned(),
        None => option.kind.clone(),
    }
}
