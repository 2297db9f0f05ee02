//! The built-in driver `local`: a directory that any number of containers share.

use volhook_plugin::Driver;
use volhook_plugin::driver::AttachRequest;
use volhook_plugin::driver::Attachment;
use volhook_plugin::driver::Backing;
use volhook_plugin::driver::CreateRequest;
use volhook_plugin::driver::Creation;
use volhook_plugin::driver::Directory;
use volhook_plugin::driver::Info;
use volhook_plugin::driver::Refusal;
use volhook_plugin::driver::Sharing;

/// The driver.
#[derive(Debug)]
pub struct Local;

impl Driver for Local {
    fn describe() -> Info {
        Info {
            name: "local".to_owned(),
            about: "A directory, shared by any number of containers".to_owned(),
            ..Info::default()
        }
    }

    fn create(_request: CreateRequest) -> Result<Creation, Refusal> {
        Ok(Creation {
            sharing: Some(Sharing::Shared),
            ..Creation::new(Backing::Directory(Directory::default()))
        })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Shared))
    }
}

volhook_plugin::export_driver!(Local);

#[cfg(test)]
mod tests {
    use super::*;
    use volhook_plugin::driver::Access;
    use volhook_plugin::testing;

    #[test]
    fn a_new_volume_is_a_directory_of_root() {
        let creation = Local::create(testing::create_request("data", &[])).unwrap();
        assert_eq!(
            creation.backing,
            Backing::Directory(Directory { mode: 0o755, uid: 0, gid: 0, more: Vec::new() })
        );
        assert_eq!((creation.limit, creation.options), (None, Vec::new()));
        assert_eq!(creation.sharing, Some(Sharing::Shared));
    }

    #[test]
    fn holders_are_no_obstacle() {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let mut request = testing::attach_request("data", access);
            request.holders = vec![testing::holder("other", Access::ReadWrite, Sharing::Shared)];
            let attachment = Local::attach(request).unwrap();
            assert_eq!((attachment.access, attachment.sharing), (access, Sharing::Shared));
        }
    }

    #[test]
    fn there_are_no_options() {
        assert_eq!(Local::describe().options, Vec::new());
    }
}
