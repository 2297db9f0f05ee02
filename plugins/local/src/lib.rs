//! The built-in driver `local`: a directory that any number of containers share. With a size it is a filesystem image
//! that they share; with a path it is a directory of the host, which its operator has to grant.

use volhook_plugin::Driver;
use volhook_plugin::driver::AttachRequest;
use volhook_plugin::driver::Attachment;
use volhook_plugin::driver::Backing;
use volhook_plugin::driver::CreateRequest;
use volhook_plugin::driver::Creation;
use volhook_plugin::driver::Directory;
use volhook_plugin::driver::Filesystem;
use volhook_plugin::driver::HostPath;
use volhook_plugin::driver::Image;
use volhook_plugin::driver::Info;
use volhook_plugin::driver::OptionInfo;
use volhook_plugin::driver::OptionKind;
use volhook_plugin::driver::Refusal;
use volhook_plugin::driver::Sharing;
use volhook_plugin::image;
use volhook_plugin::path;
use volhook_plugin::root;
use volhook_plugin::value;

/// The driver.
#[derive(Debug)]
pub struct Local;

/// The option that bounds how much the volume can hold.
const SIZE: &str = "size";
/// The option that names a directory of the host.
const PATH: &str = "path";

impl Driver for Local {
    fn describe() -> Info {
        let mut options = vec![
            OptionInfo::new(
                SIZE,
                OptionKind::Size,
                "The most that the volume can hold, 8M or more: it is then an ext4 image instead of a directory",
            ),
            OptionInfo::new(
                PATH,
                OptionKind::Text,
                "A directory of the host to use as it is, which [grants] of the configuration must name",
            ),
        ];
        options.extend(root::options(&Directory::default()));
        Info {
            name: "local".to_owned(),
            about: "A directory, shared by any number of containers".to_owned(),
            options,
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let given = &request.options;
        let shared = |backing| Creation { sharing: Some(Sharing::Shared), ..Creation::new(backing) };
        if let Some(path) = value(given, PATH) {
            if let Some(other) = value(given, SIZE).map(|_| SIZE).or_else(|| root::names(given).next()) {
                return Err(Refusal::new(format!("{other} has no effect on a directory of the host"))
                    .with_hint(format!("leave out {other} or {PATH}")));
            }
            path::check(path)?;
            let options = vec![(PATH.to_owned(), path.to_owned())];
            return Ok(Creation { options, ..shared(Backing::HostPath(HostPath::new(path))) });
        }
        let top = root::parse(given, Directory::default())?;
        let mut options = root::record(&top).to_vec();
        let Some(text) = value(given, SIZE) else {
            return Ok(Creation { options, ..shared(Backing::Directory(top)) });
        };
        let size = image::parse_size(text, Filesystem::Ext4)?;
        options.insert(0, (SIZE.to_owned(), text.to_owned()));
        let backing = Backing::Image(Image { root: top, ..Image::new(size, Filesystem::Ext4) });
        Ok(Creation { options, limit: Some(size), ..shared(backing) })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Shared))
    }
}

volhook_plugin::export_driver!(Local);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver::Access;
    use volhook_plugin::testing;

    fn create(options: &[(&str, &str)]) -> Result<Creation, Refusal> {
        Local::create(testing::create_request("data", options))
    }

    #[test]
    fn a_new_volume_is_a_directory_of_root() {
        let creation = create(&[]).unwrap();
        assert_eq!(creation.backing, Backing::Directory(Directory::default()));
        assert_eq!(creation.limit, None);
        assert_eq!(creation.sharing, Some(Sharing::Shared));
        assert_eq!(creation.options, root::record(&Directory::default()));
    }

    #[test]
    fn whose_the_directory_is_can_be_said_with_and_without_a_size() {
        let owned = [("uid", "1000"), ("gid", "100"), ("mode", "2770")];
        let top = Directory { mode: 0o2770, uid: 1000, gid: 100, more: Vec::new() };
        assert_eq!(create(&owned).unwrap().backing, Backing::Directory(top.clone()));
        let creation = create(&[&owned[..], &[("size", "64M")]].concat()).unwrap();
        let image = Image { root: top, ..Image::new(64 << 20, Filesystem::Ext4) };
        assert_eq!(creation.backing, Backing::Image(image));
        assert_eq!((creation.limit, creation.sharing), (Some(64 << 20), Some(Sharing::Shared)));
        assert!(create(&[("mode", "rwx")]).unwrap_err().reason.contains("\"rwx\""));
    }

    #[test]
    fn a_size_that_no_filesystem_fits_into_is_refused() {
        assert!(create(&[("size", "1M")]).unwrap_err().reason.contains("too small"));
        assert!(create(&[("size", "big")]).unwrap_err().reason.contains("\"big\""));
    }

    #[test]
    fn nothing_is_changed_in_a_directory_of_the_host() {
        let creation = create(&[("path", "/srv/shared")]).unwrap();
        assert_eq!(creation.backing, Backing::HostPath(HostPath::new("/srv/shared")));
        assert_eq!(creation.options, [("path".to_owned(), "/srv/shared".to_owned())]);
        for other in [("size", "1G"), ("uid", "0"), ("gid", "0"), ("mode", "755")] {
            let refusal = create(&[("path", "/srv/shared"), other]).unwrap_err();
            assert_eq!(refusal.reason, format!("{} has no effect on a directory of the host", other.0));
        }
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
    fn the_defaults_described_are_the_defaults_used() {
        let described: Vec<_> =
            Local::describe().options.into_iter().filter_map(|o| Some((o.name, o.default?))).collect();
        assert_eq!(create(&[]).unwrap().options, described);
    }

    proptest! {
        #[test]
        fn creating_again_from_the_recorded_options_gives_the_same(
            mebibytes in prop::option::of(8_u64..1 << 20),
            mode in 0_u32..=0o7777,
            uid in 0..u32::MAX,
        ) {
            let mut options = vec![("mode".to_owned(), format!("{mode:o}")), ("uid".to_owned(), uid.to_string())];
            options.extend(mebibytes.map(|size| ("size".to_owned(), format!("{size}M"))));
            let borrowed = |pairs: &[(String, String)]| {
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                create(&pairs).unwrap()
            };
            let first = borrowed(&options);
            prop_assert_eq!(first.limit, mebibytes.map(|size| size << 20));
            prop_assert_eq!(borrowed(&first.options), first);
        }
    }
}
