//! The built-in driver `tmpfs`: memory. Each container has an empty filesystem of its own, which is gone with it.

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
use volhook_plugin::driver::Tmpfs;
use volhook_plugin::root;
use volhook_plugin::size;
use volhook_plugin::value;

/// The driver.
#[derive(Debug)]
pub struct Memory;

/// The option that bounds how much a container can put into it.
const SIZE: &str = "size";
/// The option that bounds how many files there can be.
const INODES: &str = "inodes";

impl Driver for Memory {
    fn describe() -> Info {
        let mut options = vec![
            OptionInfo::new(
                SIZE,
                OptionKind::Size,
                "The most that one container can put into it; half of the host's memory where nothing is said",
            ),
            OptionInfo::new(INODES, OptionKind::Integer, "The most files, directories and links in it"),
        ];
        options.extend(root::options(&Tmpfs::default().root));
        Info {
            name: "tmpfs".to_owned(),
            about: "Memory: an empty filesystem for each container that claims it, gone with the container"
                .to_owned(),
            options,
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let given = &request.options;
        let mut options = Vec::new();
        let mut tmpfs = Tmpfs { root: root::parse(given, Tmpfs::default().root)?, ..Tmpfs::default() };
        if let Some(text) = value(given, SIZE) {
            let bytes =
                size::parse(text).map_err(|error| Refusal::new(format!("invalid size {text:?}: {error}")))?;
            tmpfs.size = Some(bytes);
            options.push((SIZE.to_owned(), text.to_owned()));
        }
        if let Some(text) = value(given, INODES) {
            let inodes: Option<u64> = text.parse().ok().filter(|inodes| *inodes > 0);
            tmpfs.inodes = Some(
                inodes.ok_or_else(|| Refusal::new(format!("invalid inodes {text:?}: must be 1 or more")))?,
            );
            options.push((INODES.to_owned(), text.to_owned()));
        }
        options.extend(root::record(&tmpfs.root));
        Ok(Creation {
            options,
            limit: tmpfs.size,
            sharing: Some(Sharing::Shared),
            ..Creation::new(Backing::Tmpfs(tmpfs))
        })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Shared))
    }
}

volhook_plugin::export_driver!(Memory);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver::Access;
    use volhook_plugin::driver::Directory;
    use volhook_plugin::testing;

    fn create(options: &[(&str, &str)]) -> Result<Creation, Refusal> {
        Memory::create(testing::create_request("scratch", options))
    }

    #[test]
    fn without_options_it_is_as_the_kernel_makes_it() {
        let creation = create(&[]).unwrap();
        assert_eq!(creation.backing, Backing::Tmpfs(Tmpfs::default()));
        assert_eq!((creation.limit, creation.sharing), (None, Some(Sharing::Shared)));
        let described: Vec<_> =
            Memory::describe().options.into_iter().filter_map(|o| Some((o.name, o.default?))).collect();
        assert_eq!(creation.options, described);
    }

    #[test]
    fn every_option_reaches_it() {
        let creation = create(&[("size", "64M"), ("inodes", "1000"), ("uid", "5"), ("mode", "700")]).unwrap();
        let root = Directory { mode: 0o700, uid: 5, gid: 0, more: Vec::new() };
        let tmpfs = Tmpfs { size: Some(64 << 20), inodes: Some(1000), root, more: Vec::new() };
        assert_eq!((creation.backing, creation.limit), (Backing::Tmpfs(tmpfs), Some(64 << 20)));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for (name, value) in [("size", "0"), ("size", "-1"), ("inodes", "0"), ("inodes", "-5"), ("mode", "9")]
        {
            let refusal = create(&[(name, value)]).unwrap_err();
            assert!(refusal.reason.starts_with(&format!("invalid {name}")), "{}", refusal.reason);
        }
    }

    #[test]
    fn any_number_of_containers_may_have_one() {
        let mut request = testing::attach_request("scratch", Access::ReadWrite);
        request.holders = vec![testing::holder("other", Access::ReadWrite, Sharing::Shared)];
        assert_eq!(Memory::attach(request).unwrap().sharing, Sharing::Shared);
    }

    proptest! {
        #[test]
        fn creating_again_from_the_recorded_options_gives_the_same(size in 1_u64..1 << 40, inodes in 1_u64..1 << 40) {
            let first = create(&[("size", &size.to_string()), ("inodes", &inodes.to_string())]).unwrap();
            let recorded: Vec<(&str, &str)> = first.options.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assert_eq!(create(&recorded).unwrap(), first);
        }
    }
}
