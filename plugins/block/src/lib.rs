//! The built-in driver `block`: a filesystem in an image file, held by one container at a time.

use volhook_plugin::Driver;
use volhook_plugin::driver::AttachRequest;
use volhook_plugin::driver::Attachment;
use volhook_plugin::driver::Backing;
use volhook_plugin::driver::CreateRequest;
use volhook_plugin::driver::Creation;
use volhook_plugin::driver::Filesystem;
use volhook_plugin::driver::Image;
use volhook_plugin::driver::Info;
use volhook_plugin::driver::OptionInfo;
use volhook_plugin::driver::OptionKind;
use volhook_plugin::driver::Refusal;
use volhook_plugin::driver::Sharing;
use volhook_plugin::size;
use volhook_plugin::value;

/// The driver.
#[derive(Debug)]
pub struct Block;

/// The option that says how much the volume can hold.
const SIZE: &str = "size";
/// The option that says which filesystem is made.
const FS: &str = "fs";

const DEFAULT_SIZE: &str = "10G";
const EXT4: &str = "ext4";

/// The smallest size in bytes: with blocks of 4096 bytes mke2fs(8) makes no journal in fewer than 2048 of them,
/// and without a journal a crash of the host could damage the filesystem.
const MIN_SIZE: u64 = 8 << 20;
const MIN_SIZE_TEXT: &str = "8M";

impl Driver for Block {
    fn describe() -> Info {
        Info {
            name: "block".to_owned(),
            about: "A filesystem in an image file, exclusive to one container".to_owned(),
            options: vec![
                OptionInfo::new(
                    SIZE,
                    OptionKind::Size,
                    format!("How much the volume can hold, {MIN_SIZE_TEXT} or more"),
                )
                .with_default(DEFAULT_SIZE),
                OptionInfo::new(FS, OptionKind::Choice(vec![EXT4.to_owned()]), "The filesystem")
                    .with_default(EXT4),
            ],
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let text = value(&request.options, SIZE).unwrap_or(DEFAULT_SIZE);
        let size =
            size::parse(text).map_err(|error| Refusal::new(format!("invalid size {text:?}: {error}")))?;
        if size < MIN_SIZE {
            return Err(Refusal::new(format!("a size of {text} is too small for ext4 with a journal"))
                .with_hint(format!("give a size of {MIN_SIZE_TEXT} or more")));
        }
        let fs = value(&request.options, FS).unwrap_or(EXT4);
        if fs != EXT4 {
            return Err(Refusal::new(format!("unknown filesystem {fs:?}")).with_hint("give fs=ext4"));
        }
        Ok(Creation {
            options: vec![(SIZE.to_owned(), text.to_owned()), (FS.to_owned(), fs.to_owned())],
            limit: Some(size),
            sharing: Some(Sharing::Exclusive),
            ..Creation::new(Backing::Image(Image::new(size, Filesystem::Ext4)))
        })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Exclusive))
    }
}

volhook_plugin::export_driver!(Block);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver::Access;
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
        assert_eq!(creation.options, texts(&[("size", "10G"), ("fs", "ext4")]));
    }

    #[test]
    fn the_smallest_size() {
        assert_eq!(size::parse(MIN_SIZE_TEXT), Ok(MIN_SIZE));
        assert_eq!(create(&[("size", "8M")]).unwrap().backing, image(8 << 20));
        let refusal = create(&[("size", "8388607")]).unwrap_err();
        assert_eq!(refusal.reason, "a size of 8388607 is too small for ext4 with a journal");
        assert_eq!(refusal.hint.as_deref(), Some("give a size of 8M or more"));
    }

    #[test]
    fn what_the_host_should_have_refused_is_refused_here_too() {
        assert!(create(&[("size", "big")]).unwrap_err().reason.contains("\"big\""));
        assert!(create(&[("fs", "ntfs")]).unwrap_err().reason.contains("\"ntfs\""));
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
        fn an_image_has_the_size_asked_for(size in MIN_SIZE..1 << 60) {
            let text = size.to_string();
            let creation = create(&[("size", &text)]).unwrap();
            prop_assert_eq!(creation.backing, image(size));
            prop_assert_eq!(creation.limit, Some(size));
            prop_assert_eq!(creation.options, texts(&[("size", &text), ("fs", "ext4")]));
        }

        #[test]
        fn creating_again_from_the_recorded_options_gives_the_same(mebibytes in 8_u64..1 << 20) {
            let first = create(&[("size", &format!("{mebibytes}m"))]).unwrap();
            let recorded: Vec<(&str, &str)> =
                first.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            prop_assert_eq!(create(&recorded).unwrap(), first);
        }
    }
}
