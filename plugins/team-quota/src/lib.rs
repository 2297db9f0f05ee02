//! The example driver `team-quota`: volumes with a size, and a limit for what the volumes of a team may have together.
//!
//! Whose a volume is says its label `team`. volhook tells with each new volume what those with the same label use
//! already, so the driver has nothing to count and nothing to remember.

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
pub struct TeamQuota;

/// The label that says whose a volume is.
const TEAM: &str = "team";
/// The size of a volume that asks for none.
const SIZE: &str = "1G";
/// What a team may have where the operator has not said.
const LIMIT: &str = "10G";
/// The smallest ext4 with a journal, in bytes.
const SMALLEST: u64 = 8 << 20;

impl Driver for TeamQuota {
    fn describe() -> Info {
        Info {
            name: "team-quota".to_owned(),
            about: "A volume with a size, within what its team may have".to_owned(),
            options: vec![
                OptionInfo::new("size", OptionKind::Size, "The most that the volume can hold, 8M or more")
                    .with_default(SIZE),
            ],
            settings: vec![
                OptionInfo::new(
                    "default",
                    OptionKind::Size,
                    "What a team may have that has no entry in teams",
                )
                .with_default(LIMIT),
                OptionInfo::new(
                    "teams",
                    OptionKind::Table,
                    "What a team may have, such as teams.web = \"50G\"",
                ),
            ],
            ..Info::default()
        }
    }

    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let Some(team) = value(&request.labels, TEAM).filter(|team| !team.is_empty()) else {
            return Err(Refusal::new("the volume has no label team").with_hint(
                "say whose it is: volume-label=team=NAME, or --label team=NAME on the command line",
            ));
        };
        let text = value(&request.options, "size").unwrap_or(SIZE);
        let size = size::parse(text).map_err(|_| {
            Refusal::new(format!("size \"{text}\" is no amount of storage"))
                .with_hint("a whole number with a unit, such as 512M or 10G")
        })?;
        if size < SMALLEST {
            return Err(Refusal::new(format!("a size of {text} is too small for ext4"))
                .with_hint("give a size of 8M or more"));
        }
        let limit = limit(&request.settings, team)?;
        let label = (TEAM.to_owned(), team.to_owned());
        let used = request.usage.labels.iter().find(|used| used.label == label).map_or(0, |used| used.bytes);
        let left = limit.saturating_sub(used);
        if size > left {
            let hint = if left < SMALLEST {
                format!("remove volumes of the team: volhook volume ls --filter label=team={team}")
            } else {
                format!("ask for {}M or less, or remove volumes of the team", left >> 20)
            };
            let (used, limit, size) = (rounded(used), rounded(limit), rounded(size));
            let reason = format!("team \"{team}\" uses {used} of {limit}, and {size} more would be too much");
            return Err(Refusal::new(reason).with_hint(hint));
        }
        Ok(Creation {
            options: vec![("size".to_owned(), text.to_owned())],
            limit: Some(size),
            // Any number of containers may hold it, whatever they are: attach need not be asked.
            sharing: Some(Sharing::Shared),
            notes: vec![format!("team \"{team}\" now uses {} of {}", rounded(used + size), rounded(limit))],
            ..Creation::new(Backing::Image(Image::new(size, Filesystem::Ext4)))
        })
    }

    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        Ok(Attachment::new(request.access, Sharing::Shared))
    }
}

/// What a team may have, in bytes. An operator may have written anything into the table.
fn limit(settings: &[(String, String)], team: &str) -> Result<u64, Refusal> {
    let own = format!("teams.{team}");
    let (name, text) = match (value(settings, &own), value(settings, "default")) {
        (Some(text), _) => (own.as_str(), text),
        (None, Some(text)) => ("default", text),
        (None, None) => ("default", LIMIT),
    };
    size::parse(text).map_err(|_| {
        Refusal::new(format!("the setting {name} is \"{text}\", which is no amount of storage"))
            .with_hint("mend [plugins.team-quota] in the configuration of volhook")
    })
}

/// Bytes for people, rounded down to tenths of a unit: `1.5G`.
fn rounded(bytes: u64) -> String {
    let units = [('P', 50), ('T', 40), ('G', 30), ('M', 20), ('K', 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return bytes.to_string();
    };
    let whole = bytes >> shift;
    match ((bytes - (whole << shift)) * 10) >> shift {
        0 => format!("{whole}{unit}"),
        tenth => format!("{whole}.{tenth}{unit}"),
    }
}

volhook_plugin::export_driver!(TeamQuota);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::driver::LabelUsage;
    use volhook_plugin::driver::Usage;
    use volhook_plugin::testing;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    /// A volume of team `a`, which uses so many bytes already and may have so many.
    fn create(size: &str, used: u64, limit: &str) -> Result<Creation, Refusal> {
        let request = testing::create_request("v", &[("size", size)]);
        let label = pair(TEAM, "a");
        TeamQuota::create(CreateRequest {
            labels: vec![label.clone()],
            settings: vec![pair("teams.a", limit)],
            usage: Usage {
                labels: vec![LabelUsage { label, volumes: 1, bytes: used, more: Vec::new() }],
                ..Usage::default()
            },
            ..request
        })
    }

    #[test]
    fn the_last_byte_may_be_used() {
        assert!(create("1G", 9 << 30, "10G").is_ok());
        assert!(create("1G", (9 << 30) + 1, "10G").is_err());
    }

    #[test]
    fn sizes_are_never_rounded_up() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1 << 10, "1K"),
            ((1 << 30) - 1, "1023.9M"),
            (3 << 29, "1.5G"),
            (10 << 30, "10G"),
            (u64::MAX, "16383.9P"),
        ] {
            assert_eq!(rounded(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn no_team_gets_more_than_its_limit(mebibytes in 1_u64..1 << 20, used in any::<u64>(), limit in 1_u64..1 << 20) {
            match create(&format!("{mebibytes}M"), used, &format!("{limit}M")) {
                Ok(creation) => {
                    prop_assert!(used + creation.limit.unwrap() <= limit << 20);
                    prop_assert_eq!(creation.limit, Some(mebibytes << 20));
                }
                Err(refusal) => prop_assert!(mebibytes < 8 || used.saturating_add(mebibytes << 20) > limit << 20, "{}", refusal.reason),
            }
        }

        #[test]
        fn what_a_hint_says_is_granted(mebibytes in 8_u64..1 << 20, used in 0_u64..1 << 40, limit in 1_u64..1 << 20) {
            let limit = format!("{limit}M");
            if let Err(Refusal { hint: Some(hint), .. }) = create(&format!("{mebibytes}M"), used, &limit)
                && let Some(size) = hint.strip_prefix("ask for ").and_then(|rest| rest.split(' ').next())
            {
                prop_assert!(create(size, used, &limit).is_ok(), "{}", hint);
            }
        }

        #[test]
        fn any_text_gets_an_answer(team in "\\PC{0,10}", size in "\\PC{0,10}", limit in "\\PC{0,10}") {
            let request = testing::create_request("v", &[("size", &size)]);
            let settings = vec![pair(&format!("teams.{team}"), &limit)];
            let _ = TeamQuota::create(CreateRequest { labels: vec![pair(TEAM, &team)], settings, ..request });
        }
    }
}
