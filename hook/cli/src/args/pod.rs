//! The command line of `volhook pod`.

use crate::commands;
use crate::commands::pod::Preparation;
use crate::commands::pod::Resetting;
use clap::Subcommand;
use std::path::PathBuf;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_face::args::Output;

#[derive(Subcommand)]
pub(super) enum Pod {
    /// List pods.
    Ls {
        /// Only the names.
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show all that is known of pods, as JSON: their volumes, sizes, image, and how far they are from that.
    Inspect {
        /// The pods.
        #[arg(required = true, value_name = "POD")]
        pods: Vec<String>,
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
pub(super) fn run(context: &Context<'_>, command: &Pod) -> Result<(), Failure> {
    match command {
        Pod::Ls { quiet, output } => commands::pod::ls(context, *quiet, output.json),
        Pod::Inspect { pods, tenant } => commands::pod::inspect(context, tenant, pods),
        Pod::Prepare { pod, rootfs, policy, tenant } => {
            let policy = policy.as_deref();
            commands::pod::prepare(context, &Preparation { tenant, pod, rootfs, policy })
        }
        Pod::Resize { pod, size, tenant } => commands::pod::resize(context, tenant, pod, size),
        Pod::Reset { pod, volumes, tenant, force } => {
            commands::pod::reset(context, &Resetting { tenant, pod, volumes, force: *force })
        }
        Pod::Upgrade { pod, rootfs, tenant } => {
            commands::pod::upgrade(context, tenant, pod, rootfs.as_deref())
        }
        Pod::Rm { pods, tenant, force } => commands::pod::rm(context, tenant, pods, *force),
    }
}
