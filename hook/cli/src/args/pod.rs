//! The command line of `volhook pod`.

use crate::args::Shaped;
use crate::commands;
use crate::watch::Watch;
use clap::Subcommand;
use std::path::PathBuf;
use volhook_api::PodRef;
use volhook_api::pod::Prepare;
use volhook_api::pod::Reset;
use volhook_api::pod::Upgrade;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;

#[derive(Subcommand)]
pub(super) enum Pod {
    /// List pods.
    Ls {
        /// Only the names.
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        shaped: Shaped,
    },
    /// Show all that is known of pods, as JSON: their volumes, sizes, image, and how far they are from that.
    Inspect {
        /// The pods.
        #[arg(required = true, value_name = "POD")]
        pods: Vec<String>,
        /// `json` for one document in one line, or a template for each, such as '{{.Image.System}}'.
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        /// The tenant whose pods they are.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Make a pod's volumes ahead of its first start, however long that takes. What is there already stays as it is; a pod
    /// that would begin anew from this image is refused.
    Prepare {
        /// The pod.
        pod: String,
        /// The image: a root filesystem as its containers will have it.
        #[arg(long, value_name = "DIR")]
        rootfs: PathBuf,
        /// The policy and its settings, as the annotation `policy` has them, such as `universal,population=copy`.
        #[arg(long, value_name = "PLUGIN,KEY=VALUE,…")]
        policy: Option<String>,
        /// The tenant whose pod it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Give a pod that is one image another size: larger at any time, smaller while nobody holds it.
    Resize {
        /// The pod.
        pod: String,
        /// Its new size, such as 20G.
        size: String,
        /// The tenant whose pod it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Put a pod back to its image: what it has changed goes to the trash, or, of single volumes, is deleted.
    Reset {
        /// The pod.
        pod: String,
        /// Only these of its volumes, by their names or by what they are in the pod, such as `etc`. What was changed in them
        /// cannot be taken back.
        #[arg(long = "volume", value_name = "NAME")]
        volumes: Vec<String>,
        /// The tenant whose pod it is.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
    /// Accept another image for a pod: the one with which its container was refused, or the one in a directory. Prints
    /// what of it is hidden by the pod's own changes.
    Upgrade {
        /// The pod.
        pod: String,
        /// The image: a root filesystem as the pod's containers will have it.
        #[arg(long, value_name = "DIR")]
        rootfs: Option<PathBuf>,
        /// The tenant whose pod it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Remove pods with all their volumes. What a container holds stays, whatever is said.
    Rm {
        /// The pods.
        #[arg(required = true, value_name = "POD")]
        pods: Vec<String>,
        /// The tenant whose pods they are.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
}

/// Does what a command line says.
pub(super) fn run(engine: &Engine, watch: &Watch, command: Pod) -> Result<(), Failure> {
    let all = |tenant: &str, pods: Vec<String>| -> Result<Vec<PodRef>, Failure> {
        pods.iter().map(|pod| named::pod(tenant, pod)).collect()
    };
    match command {
        Pod::Ls { quiet, shaped } => commands::pod::ls(engine, watch, quiet, &shaped.shape()?),
        Pod::Inspect { pods, format, tenant } => {
            let pods = all(&tenant, pods)?;
            commands::pod::inspect(engine, watch, pods, format.as_deref())
        }
        Pod::Prepare { pod, rootfs, policy, tenant } => {
            let pod = named::pod(&tenant, &pod)?;
            commands::pod::prepare(engine, watch, &Prepare { pod, rootfs, policy })
        }
        Pod::Resize { pod, size, tenant } => {
            commands::pod::resize(engine, watch, named::pod(&tenant, &pod)?, &size)
        }
        Pod::Reset { pod, volumes, tenant, force } => {
            let pod = named::pod(&tenant, &pod)?;
            commands::pod::reset(engine, watch, &Reset { pod, volumes }, force)
        }
        Pod::Upgrade { pod, rootfs, tenant } => {
            let pod = named::pod(&tenant, &pod)?;
            commands::pod::upgrade(engine, watch, &Upgrade { pod, rootfs })
        }
        Pod::Rm { pods, tenant, force } => commands::pod::rm(engine, watch, all(&tenant, pods)?, force),
    }
}
