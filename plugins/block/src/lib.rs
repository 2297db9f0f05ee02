//! The built-in driver `block`: a filesystem in an image file, held by one container at a time.

use volhook_plugin::Driver;
use volhook_plugin::driver::AttachRequest;
use volhook_plugin::driver::Attachment;
use volhook_plugin::driver::Backing;
use volhook_plugin::driver::CreateRequest;
use volhook_plugin::driver::Creation;
use volhook_plugin::driver::Directory;
use volhook_plugin::driver::Image;
use volhook_plugin::driver::Info;
use volhook_plugin::driver::OptionInfo;
use volhook_plugin::driver::OptionKind;
use volhook_plugin::driver::Refusal;
use volhook_plugin::driver::Sharing;
use volhook_plugin::image;
use volhook_plugin::root;
use volhook_plugin::value;

/// The driver.
#[derive(Debug)]
pub struct Block;

/// The option that says how much the volume can hold.
const SIZE: &str = "size";
/// The option that says which filesystem is made.
const FS: &str = "fs";
/// The option with settings of the filesystem's maker.
const MKFS: &str = "mkfs";
/// The option that says whether the host gets back what is deleted.
const DISCARD: &str = "discard";
/// The option that says whether the volume's bytes are taken at once.
const PREALLOC: &str = "prealloc";

const DEFAULT_SIZE: &str = "10G";
const DEFAULT_FS: &str = "ext4";
const NO: &str = "false";
const YES: &str = "true";
const NONE: &str = "none";
const FULL: &str = "full";

impl Driver for Block {
    fn describe() -> Info {
        let filesystems = image::FILESYSTEMS.map(|(name, _)| name.to_owned()).to_vec();
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let mut options = vec![
            OptionInfo::new(
                SIZE,
                OptionKind::Size,
                "How much the volume can hold: 8M or more with ext4, 109M with btrfs, 300M with xfs",
            )
            .with_default(DEFAULT_SIZE),
            OptionInfo::new(FS, OptionKind::Choice(filesystems), "The filesystem").with_default(DEFAULT_FS),
            OptionInfo::new(
                MKFS,
                OptionKind::Text,
                "How the filesystem is made, such as label=db,inode-size=512; a refusal lists what may be given",
            ),
            OptionInfo::new(
                DISCARD,
                OptionKind::Boolean,
                "Whether the host's disk gets back what is deleted",
            )
            .with_default(NO),
            OptionInfo::new(
                PREALLOC,
                OptionKind::Choice(texts(&[NONE, FULL])),
                "Whether all of the size is taken from the host's disk at the creation",
            )
            .with_default(NONE),
        ];
        options.extend(root::options(&Directory::default()));
        Info {
            name: "block".to_owned(),
            about: "A filesystem in an image file, exclusive to one container".to_owned(),
            options,
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let given = &request.options;
        let fs = value(given, FS).unwrap_or(DEFAULT_FS);
        let filesystem = image::filesystem(fs)?;
        let text = value(given, SIZE).unwrap_or(DEFAULT_SIZE);
        let size = image::parse_size(text, filesystem)?;
        let mkfs = value(given, MKFS);
        let discard = either(given, DISCARD, NO, YES)?;
        let preallocated = either(given, PREALLOC, NONE, FULL)?;
        if discard && preallocated {
            let reason = "discard=true would give back what prealloc=full has taken";
            return Err(Refusal::new(reason).with_hint("give one of them"));
        }
        let top = root::parse(given, Directory::default())?;
        let mut options: Vec<(String, String)> = [
            (SIZE, Some(text)),
            (FS, Some(fs)),
            (MKFS, mkfs),
            (DISCARD, Some(if discard { YES } else { NO })),
            (PREALLOC, Some(if preallocated { FULL } else { NONE })),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
        options.extend(root::record(&top));
        let mkfs = mkfs.map_or(Ok(Vec::new()), settings)?;
        let image = Image { root: top, mkfs, discard, preallocated, ..Image::new(size, filesystem) };
        Ok(Creation {
            options,
            limit: Some(size),
            sharing: Some(Sharing::Exclusive),
            ..Creation::new(Backing::Image(image))
        })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Exclusive))
    }
}

/// Whether the option is `yes` rather than `no`, which it is when it is not given.
fn either(given: &[(String, String)], name: &str, no: &str, yes: &str) -> Result<bool, Refusal> {
    match value(given, name) {
        None => Ok(false),
        Some(text) if text == no => Ok(false),
        Some(text) if text == yes => Ok(true),
        Some(text) => Err(Refusal::new(format!("invalid {name} {text:?}: must be {no} or {yes}"))),
    }
}

/// The settings in `NAME=VALUE,…`. volhook knows which there are.
fn settings(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    text.split(',')
        .map(|item| match item.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Refusal::new(format!("{MKFS} {item:?} is not NAME=VALUE"))
                .with_hint(format!("give for example {MKFS}=label=db,inode-size=512"))),
        })
        .collect()
}

volhook_plugin::export_driver!(Block);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver::Access;
    use volhook_plugin::driver::Filesystem;
    use volhook_plugin::testing;

    fn create(options: &[(&str, &str)]) -> Result<Creation, Refusal> {
        Block::create(testing::create_request("mydb", options))
    }

    fn image(size: u64) -> Backing {
        Backing::Image(Image::new(size, Filesystem::Ext4))
    }

    fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn without_options_it_is_ten_gibibytes_of_ext4() {
        let creation = create(&[]).unwrap();
        assert_eq!(creation.backing, image(10 << 30));
        assert_eq!(creation.limit, Some(10 << 30));
        assert_eq!(creation.sharing, Some(Sharing::Exclusive));
        let options = [("size", "10G"), ("fs", "ext4"), ("discard", "false"), ("prealloc", "none")];
        assert_eq!(creation.options[..4], texts(&options));
    }

    #[test]
    fn every_option_reaches_the_image() {
        let creation = create(&[
            ("size", "1G"),
            ("fs", "xfs"),
            ("mkfs", "label=db,reflink=false"),
            ("discard", "true"),
            ("uid", "999"),
            ("mode", "700"),
        ])
        .unwrap();
        let root = Directory { mode: 0o700, uid: 999, gid: 0, more: Vec::new() };
        let mkfs = texts(&[("label", "db"), ("reflink", "false")]);
        let image = Image { root, mkfs, discard: true, ..Image::new(1 << 30, Filesystem::Xfs) };
        assert_eq!(creation.backing, Backing::Image(image));
        let image = create(&[("prealloc", "full"), ("size", "8M")]).unwrap().backing;
        assert_eq!(
            image,
            Backing::Image(Image { preallocated: true, ..Image::new(8 << 20, Filesystem::Ext4) })
        );
    }

    #[test]
    fn each_filesystem_has_a_smallest_size() {
        for (fs, least) in [("ext4", 8_u64 << 20), ("xfs", 300 << 20), ("btrfs", 109 << 20)] {
            let sized = |size: u64| create(&[("fs", fs), ("size", &size.to_string())]);
            assert_eq!(sized(least).unwrap().limit, Some(least));
            assert!(sized(least - 1).unwrap_err().hint.is_some_and(|hint| hint.contains("or more")), "{fs}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refusal = create(&[("discard", "true"), ("prealloc", "full")]).unwrap_err();
        assert!(refusal.reason.contains("discard") && refusal.reason.contains("prealloc"));
        for mkfs in ["", "label", "=x", "label=a,"] {
            assert!(create(&[("mkfs", mkfs)]).unwrap_err().reason.contains("NAME=VALUE"), "{mkfs}");
        }
    }

    #[test]
    fn what_the_host_should_have_refused_is_refused_here_too() {
        assert!(create(&[("size", "big")]).unwrap_err().reason.contains("\"big\""));
        assert!(create(&[("fs", "ntfs")]).unwrap_err().reason.contains("\"ntfs\""));
        assert!(create(&[("discard", "maybe")]).unwrap_err().reason.contains("\"maybe\""));
        assert!(create(&[("prealloc", "half")]).unwrap_err().reason.contains("\"half\""));
    }

    #[test]
    fn one_container_at_a_time() {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let attachment = Block::attach(testing::attach_request("mydb", access)).unwrap();
            assert_eq!((attachment.access, attachment.sharing), (access, Sharing::Exclusive));
        }
    }

    #[test]
    fn the_defaults_described_are_the_defaults_used() {
        let described: Vec<_> = Block::describe()
            .options
            .into_iter()
            .filter_map(|option| option.default.map(|default| (option.name, default)))
            .collect();
        assert_eq!(create(&[]).unwrap().options, described);
    }

    proptest! {
        #[test]
        fn an_image_has_the_size_asked_for(size in 8_u64 << 20..1 << 60) {
            let text = size.to_string();
            let creation = create(&[("size", &text)]).unwrap();
            prop_assert_eq!(creation.backing, image(size));
            prop_assert_eq!(creation.limit, Some(size));
            prop_assert_eq!(&creation.options[..2], &texts(&[("size", &text), ("fs", "ext4")]));
        }

        #[test]
        fn creating_again_from_the_recorded_options_gives_the_same(mebibytes in 8_u64..1 << 20) {
            let first = create(&[("size", &format!("{mebibytes}m")), ("mkfs", "label=a,inodes=100")]).unwrap();
            let recorded: Vec<(&str, &str)> =
                first.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            prop_assert_eq!(create(&recorded).unwrap(), first);
        }
    }
}
