//! The built-in driver `host`: a directory of the host, used as it is. Its operator has to grant it.

use volhook_plugin::Driver;
use volhook_plugin::driver::AttachRequest;
use volhook_plugin::driver::Attachment;
use volhook_plugin::driver::Backing;
use volhook_plugin::driver::CreateRequest;
use volhook_plugin::driver::Creation;
use volhook_plugin::driver::HostPath;
use volhook_plugin::driver::Info;
use volhook_plugin::driver::OptionInfo;
use volhook_plugin::driver::OptionKind;
use volhook_plugin::driver::Refusal;
use volhook_plugin::driver::Sharing;
use volhook_plugin::path;
use volhook_plugin::value;

/// The driver.
#[derive(Debug)]
pub struct Host;

/// The option that names the directory.
const PATH: &str = "path";

impl Driver for Host {
    fn describe() -> Info {
        Info {
            name: "host".to_owned(),
            about: "A directory of the host, which [grants] of the configuration must name; shared"
                .to_owned(),
            options: vec![OptionInfo::new(
                PATH,
                OptionKind::Text,
                "The directory, which must exist; needed. Removing the volume leaves it alone",
            )],
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let path = value(&request.options, PATH).ok_or_else(|| {
            Refusal::new("no directory of the host is named").with_hint("give path=/a/granted/directory")
        })?;
        path::check(path)?;
        Ok(Creation {
            options: vec![(PATH.to_owned(), path.to_owned())],
            sharing: Some(Sharing::Shared),
            ..Creation::new(Backing::HostPath(HostPath::new(path)))
        })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Shared))
    }
}

volhook_plugin::export_driver!(Host);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver::Access;
    use volhook_plugin::testing;

    #[test]
    fn a_path_is_needed() {
        let refusal = Host::create(testing::create_request("v", &[])).unwrap_err();
        assert!(refusal.hint.is_some_and(|hint| hint.contains("path=")));
        let refusal = Host::create(testing::create_request("v", &[("path", "srv")])).unwrap_err();
        assert_eq!(refusal.reason, "invalid path \"srv\": must be absolute");
        assert!(Host::describe().options.iter().all(|option| option.default.is_none()));
    }

    #[test]
    fn holders_are_no_obstacle() {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let mut request = testing::attach_request("v", access);
            request.holders = vec![testing::holder("other", Access::ReadWrite, Sharing::Shared)];
            let attachment = Host::attach(request).unwrap();
            assert_eq!((attachment.access, attachment.sharing), (access, Sharing::Shared));
        }
    }

    proptest! {
        #[test]
        fn the_path_is_handed_on_as_it_is(path in "(/[a-z]{1,9}){1,5}") {
            let creation = Host::create(testing::create_request("v", &[("path", &path)])).unwrap();
            prop_assert_eq!(creation.backing, Backing::HostPath(HostPath::new(path.as_str())));
            prop_assert_eq!(creation.options, [("path".to_owned(), path)]);
        }
    }
}
