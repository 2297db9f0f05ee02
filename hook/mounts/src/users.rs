//! A container's user namespace, and making files as its root user.

use crate::error::Error;
use crate::process::Process;
use rustix::thread::CapabilitiesSecureBits;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// The host's user and group id of a container's root user.
pub(crate) type RootIds = (u32, u32);

/// A container's user namespace (user_namespaces(7)) and the host's ids of its root user.
#[derive(Debug)]
pub struct Users {
    namespace: OwnedFd,
    root: RootIds,
}

impl Users {
    /// The users of `process`; `None` if they are the caller's own.
    ///
    /// # Errors
    /// [`Error::RootNotMapped`] when its user namespace has no root; [`Error::ProcessGone`], [`Error::ReadProcess`],
    /// [`Error::ProcForm`].
    pub fn of_process(process: &Process) -> Result<Option<Self>, Error> {
        match process.user_namespace_fd_if_foreign()? {
            Some(namespace) => Ok(Some(Self { namespace, root: process.root_ids()? })),
            None => Ok(None),
        }
    }

    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    pub(crate) fn root(&self) -> RootIds {
        self.root
    }
}

/// Lets this thread change its ids for files without losing its capabilities (capabilities(7), `SECBIT_NO_SETUID_FIXUP`).
/// Only for threads that end soon: it stays like that.
pub(crate) fn keep_capabilities() -> std::io::Result<()> {
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP).map_err(Into::into)
}

/// Runs `work` with these user and group ids for files (setfsuid(2)), which only concern this thread. It keeps its
/// capabilities meanwhile only after [`keep_capabilities`].
pub(crate) fn as_user<T>(ids: Option<RootIds>, work: impl FnOnce() -> T) -> T {
    use nix::unistd::Gid;
    use nix::unistd::Uid;
    let Some((user, group)) = ids else { return work() };
    let old_group = nix::unistd::setfsgid(Gid::from_raw(group));
    let old_user = nix::unistd::setfsuid(Uid::from_raw(user));
    let result = work();
    nix::unistd::setfsuid(old_user);
    nix::unistd::setfsgid(old_group);
    result
}
