//! The built-in driver `device`: a filesystem on a block device of the host, held by one container at a time. The
//! host's operator has to grant the device, and makes the filesystem.

use volhook_plugin::Driver;
use volhook_plugin::driver::AttachRequest;
use volhook_plugin::driver::Attachment;
use volhook_plugin::driver::Backing;
use volhook_plugin::driver::CreateRequest;
use volhook_plugin::driver::Creation;
use volhook_plugin::driver::Info;
use volhook_plugin::driver::OptionInfo;
use volhook_plugin::driver::OptionKind;
use volhook_plugin::driver::Refusal;
use volhook_plugin::driver::Sharing;
use volhook_plugin::image;
use volhook_plugin::path;
use volhook_plugin::value;

/// The driver.
#[derive(Debug)]
pub struct Device;

/// The option that names the device.
const PATH: &str = "path";
/// The option that says which filesystem is on it.
const FS: &str = "fs";

const DEFAULT_FS: &str = "ext4";

impl Driver for Device {
    fn describe() -> Info {
        let filesystems = image::FILESYSTEMS.map(|(name, _)| name.to_owned()).to_vec();
        Info {
            name: "device".to_owned(),
            about: "A block device of the host, which [grants] of the configuration must name; exclusive"
                .to_owned(),
            options: vec![
                OptionInfo::new(
                    PATH,
                    OptionKind::Text,
                    "The device, such as /dev/vg0/lv; needed. volhook never formats it",
                ),
                OptionInfo::new(FS, OptionKind::Choice(filesystems), "The filesystem that is on it")
                    .with_default(DEFAULT_FS),
            ],
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let path = value(&request.options, PATH).ok_or_else(|| {
            Refusal::new("no device of the host is named").with_hint("give path=/dev/a/granted/device")
        })?;
        path::check(path)?;
        let fs = value(&request.options, FS).unwrap_or(DEFAULT_FS);
        let device = volhook_plugin::driver::Device::new(path, image::filesystem(fs)?);
        Ok(Creation {
            options: vec![(PATH.to_owned(), path.to_owned()), (FS.to_owned(), fs.to_owned())],
            sharing: Some(Sharing::Exclusive),
            ..Creation::new(Backing::Device(device))
        })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Exclusive))
    }
}

volhook_plugin::export_driver!(Device);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver;
    use volhook_plugin::driver::Access;
    use volhook_plugin::driver::Filesystem;
    use volhook_plugin::testing;

    fn create(options: &[(&str, &str)]) -> Result<Creation, Refusal> {
        Device::create(testing::create_request("v", options))
    }

    #[test]
    fn a_device_is_needed_and_a_filesystem_known() {
        assert!(create(&[]).unwrap_err().hint.is_some_and(|hint| hint.contains("path=")));
        assert!(create(&[("path", "sdb")]).unwrap_err().reason.contains("must be absolute"));
        assert!(create(&[("path", "/dev/sdb"), ("fs", "zfs")]).unwrap_err().reason.contains("\"zfs\""));
        let creation = create(&[("path", "/dev/sdb")]).unwrap();
        assert_eq!(creation.backing, Backing::Device(driver::Device::new("/dev/sdb", Filesystem::Ext4)));
        assert_eq!((creation.limit, creation.sharing), (None, Some(Sharing::Exclusive)));
    }

    #[test]
    fn one_container_at_a_time() {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let attachment = Device::attach(testing::attach_request("v", access)).unwrap();
            assert_eq!((attachment.access, attachment.sharing), (access, Sharing::Exclusive));
        }
    }

    proptest! {
        #[test]
        fn creating_again_from_the_recorded_options_gives_the_same(path in "(/[a-z]{1,9}){1,5}", fs in 0_usize..3) {
            let first = create(&[("path", &path), ("fs", image::FILESYSTEMS[fs].0)]).unwrap();
            let recorded: Vec<(&str, &str)> = first.options.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assert_eq!(create(&recorded).unwrap(), first);
        }
    }
}
