//! The example driver `single-writer`: a directory that one container at a time may write and any number may read.

use volhook_plugin::Driver;
use volhook_plugin::driver::Access;
use volhook_plugin::driver::AttachRequest;
use volhook_plugin::driver::Attachment;
use volhook_plugin::driver::Backing;
use volhook_plugin::driver::CreateRequest;
use volhook_plugin::driver::Creation;
use volhook_plugin::driver::Directory;
use volhook_plugin::driver::Info;
use volhook_plugin::driver::Refusal;
use volhook_plugin::driver::Sharing;
use volhook_plugin::root;

/// The driver.
#[derive(Debug)]
pub struct SingleWriter;

impl Driver for SingleWriter {
    fn describe() -> Info {
        Info {
            name: "single-writer".to_owned(),
            about: "A directory that one container at a time may write, and any number may read".to_owned(),
            options: root::options(&Directory::default()).to_vec(),
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let top = root::parse(&request.options, Directory::default())?;
        Ok(Creation { options: root::record(&top).to_vec(), ..Creation::new(Backing::Directory(top)) })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        let writer = request.holders.iter().find(|holder| holder.access == Access::ReadWrite);
        match (request.access, writer) {
            // volhook keeps two writers apart by itself; only the driver can say what to do about it.
            (Access::ReadWrite, Some(writer)) => {
                Err(Refusal::new(format!("container \"{}\" writes to it", writer.container))
                    .with_hint("mount it read-only, or stop that container first"))
            }
            (access, _) => Ok(Attachment::new(access, Sharing::SingleWriter)),
        }
    }
}

volhook_plugin::export_driver!(SingleWriter);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver::HolderInfo;
    use volhook_plugin::testing;

    fn attach(access: Access, holders: Vec<HolderInfo>) -> Result<Attachment, Refusal> {
        SingleWriter::attach(AttachRequest { holders, ..testing::attach_request("v", access) })
    }

    #[test]
    fn a_volume_is_a_directory_with_the_owner_that_was_asked_for() {
        let creation =
            SingleWriter::create(testing::create_request("v", &[("uid", "1000"), ("mode", "0700")])).unwrap();
        let top = Directory { uid: 1000, mode: 0o700, ..Directory::default() };
        assert_eq!(creation.backing, Backing::Directory(top));
        assert_eq!(creation.sharing, None, "attach is asked each time");
    }

    proptest! {
        #[test]
        fn there_is_never_a_second_writer(writers in prop::collection::vec(any::<bool>(), 0..6), write: bool) {
            let holders = writers.iter().map(|writes| {
                let access = if *writes { Access::ReadWrite } else { Access::ReadOnly };
                testing::holder("other", access, Sharing::SingleWriter)
            });
            let access = if write { Access::ReadWrite } else { Access::ReadOnly };
            let answer = attach(access, holders.collect());
            prop_assert_eq!(answer.is_err(), write && writers.contains(&true));
            if let Ok(attachment) = answer {
                prop_assert_eq!((attachment.access, attachment.sharing), (access, Sharing::SingleWriter));
            }
        }
    }
}
