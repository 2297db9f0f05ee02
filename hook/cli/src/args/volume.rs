//! The command line of `volhook volume`.

use crate::args::Output;
use crate::commands;
use crate::commands::adopt::Adoption;
use crate::commands::copy::Copying;
use crate::commands::listing::Listed;
use crate::commands::removal::Pruning;
use crate::commands::removal::Removing;
use crate::commands::volume::Asked;
use crate::watch::Watch;
use clap::Subcommand;
use std::ffi::OsString;
use std::path::PathBuf;
use volhook_engine::Engine;
use volhook_engine::Failure;

#[derive(Subcommand)]
pub(super) enum Volume {
    /// Create a volume and print its name. One that exists with the same driver and options is fine.
    Create {
        /// Its name; a random one where none is given.
        name: Option<String>,
        /// The driver that decides how it is backed and who may hold it.
        #[arg(short, long)]
        driver: Option<String>,
        /// An option of the driver; `volhook driver inspect DRIVER` lists them.
        #[arg(short, long = "opt", value_name = "KEY=VALUE")]
        options: Vec<String>,
        /// A label; without a value it is an empty one.
        #[arg(long = "label", value_name = "KEY[=VALUE]")]
        labels: Vec<String>,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// List volumes.
    #[command(visible_alias = "list")]
    Ls {
        /// Only those that match: driver=, label=, label!=, dangling=, name= (a regular expression), pod=.
        #[arg(short, long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// Only the names.
        #[arg(short, long)]
        quiet: bool,
        /// Count all sizes anew, however long that takes. Without it a size may be a minute old, or older if counting takes
        /// long; then its age is shown.
        #[arg(long, conflicts_with = "quiet")]
        count: bool,
        /// A line for each volume, such as '{{.Name}} {{.Size}}', a table as in 'table {{.Name}}\t{{.Driver}}', or `json`.
        #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
        format: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Remove volumes: they go to the trash. What a container holds stays, whatever is said.
    #[command(visible_alias = "remove")]
    Rm {
        /// The volumes.
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
        names: Vec<String>,
        /// All volumes that belong to no pod.
        #[arg(long)]
        all: bool,
        /// Of all volumes only those that match: driver=, label=, label!=, dangling=, name=.
        #[arg(long, requires = "all", value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Do not ask, and let it be if there is no such volume.
        #[arg(short, long)]
        force: bool,
    },
    /// Remove volumes that no container has had for some days and that belong to no pod. Where the history does not reach
    /// back so far, they stay.
    Prune {
        /// So many days since the last container gave it back.
        #[arg(long, default_value_t = 30, value_name = "DAYS")]
        unused_for: u32,
        /// Only those that match: driver=, label=, label!=, name=.
        #[arg(long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Only show which, and why.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
    /// Make a directory or filesystem image that exists a volume, as it is. It is moved, not copied.
    Adopt {
        /// The directory, or the image.
        path: PathBuf,
        /// The volume's name.
        name: String,
        /// The driver: without one, local for a directory and block for an image. An image of driver local stays an
        /// image, for one container at a time.
        #[arg(short, long)]
        driver: Option<String>,
        /// A label; without a value it is an empty one.
        #[arg(long = "label", value_name = "KEY[=VALUE]")]
        labels: Vec<String>,
        /// Leave it where it is: a directory that the configuration grants, or an image on the filesystem of the volumes.
        #[arg(long)]
        in_place: bool,
        /// The tenant whose volume it will be.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Give a volume another name, while nobody holds it.
    Rename {
        /// The volume.
        old: String,
        /// Its new name.
        new: String,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Mount an image on the host for a look, and print where. Nobody else gets it until it is unmounted.
    Mount {
        /// The volume.
        name: String,
        /// An existing directory; one in the run directory is made without it.
        directory: Option<PathBuf>,
        /// Only for reading.
        #[arg(short, long)]
        read_only: bool,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Unmount what `mount` mounted.
    Umount {
        /// The volume.
        name: String,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Give an image another size: larger at any time, smaller while nobody holds it.
    Resize {
        /// The volume.
        name: String,
        /// Its new size, such as 20G.
        size: String,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Make a volume as a copy of another, and print its name. An image must be free.
    Clone {
        /// The volume to copy.
        name: String,
        /// The name of the new one.
        new: String,
        /// A label, besides those of the original.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Copy files into a volume or out of it, by docker's rules. One side is NAME:PATH, the other a path of the host,
    /// or - for a tar stream.
    Cp {
        /// What to copy; of a directory that ends in /. what is in it.
        #[arg(value_name = "FROM", allow_hyphen_values = true)]
        from: OsString,
        /// Where to. Into a volume everything becomes root's, out of it yours.
        #[arg(value_name = "TO", allow_hyphen_values = true)]
        to: OsString,
        /// Keep owners, set-id bits, capabilities, access lists and devices. Otherwise they are left out.
        #[arg(short, long)]
        archive: bool,
        /// Copy what the symlink FROM points to, not the symlink.
        #[arg(short = 'L', long)]
        follow_link: bool,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Check the filesystem of an image that nobody holds.
    Fsck {
        /// The volume.
        name: String,
        /// Mend what is found.
        #[arg(long)]
        repair: bool,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Show all that is known of volumes, as JSON: where they are, how large, who holds them and since when.
    Inspect {
        /// The volumes.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// `docker` for docker's own document, `json` for one in one line, or a line for each volume, such as
        /// '{{.Mountpoint}}'.
        #[arg(short, long, value_name = "docker|json|TEMPLATE")]
        format: Option<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
}

/// Does what a command line says.
pub(super) fn run(engine: &Engine, watch: &Watch, command: Volume) -> Result<(), Failure> {
    match command {
        Volume::Create { name, driver, options, labels, tenant } => {
            let asked =
                Asked { name: name.as_deref(), tenant: &tenant, driver, options: &options, labels: &labels };
            commands::volume::create(engine, watch, asked)
        }
        Volume::Ls { filter, quiet, count, format, output } => {
            let (format, as_json) = (format.as_deref(), output.json);
            let how = Listed { filter: &filter, quiet, format, as_json, count };
            commands::listing::ls(engine, watch, &how)
        }
        Volume::Rm { names, all, filter, tenant, force } => {
            let removing = Removing { names: &names, all, filter: &filter, tenant: &tenant, force };
            commands::removal::rm(engine, watch, &removing)
        }
        Volume::Prune { unused_for, filter, tenant, dry_run, force } => {
            let pruning = Pruning { days: unused_for, filter: &filter, tenant: &tenant, dry_run, force };
            commands::removal::prune(engine, watch, &pruning)
        }
        Volume::Adopt { path, name, driver, labels, in_place, tenant } => {
            let (path, labels) = (path.as_path(), labels.as_slice());
            let adoption = Adoption { path, name: &name, tenant: &tenant, driver, labels, in_place };
            commands::adopt::adopt(engine, watch, adoption)
        }
        Volume::Rename { old, new, tenant } => commands::adopt::rename(engine, watch, &tenant, &old, &new),
        Volume::Mount { name, directory, read_only, tenant } => {
            commands::mount::mount(engine, watch, (&tenant, &name), directory.as_deref(), read_only)
        }
        Volume::Umount { name, tenant } => commands::mount::umount(engine, watch, &tenant, &name),
        Volume::Resize { name, size, tenant } => {
            commands::filesystem::resize(engine, watch, &tenant, &name, &size)
        }
        Volume::Clone { name, new, labels, tenant } => {
            commands::clone::clone(engine, watch, (&tenant, &name, &new), &labels)
        }
        Volume::Cp { from, to, archive, follow_link: follow, tenant } => {
            let copying = Copying { from: &from, to: &to, tenant: &tenant, archive, follow };
            commands::copy::cp(engine, watch, &copying)
        }
        Volume::Fsck { name, repair, tenant } => {
            commands::filesystem::fsck(engine, watch, &tenant, &name, repair)
        }
        Volume::Inspect { names, format, tenant } => {
            commands::volume::inspect(engine, watch, &tenant, &names, format.as_deref())
        }
    }
}
