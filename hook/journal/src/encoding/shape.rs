//! The numbers of the fields of what records consist of, and of the values of fixed sets.

use super::wire::Count;
use super::wire::Out;
use super::wire::Put;
use super::wire::Taken;
use super::wire::Wire;
use super::wire::put_array;
use super::wire::put_fields;
use super::wire::take_array;
use super::wire::take_fields;
use super::wire::wrong;
use minicbor::Decoder;
use volhook_core::claims::Claim;
use volhook_core::claims::Origin;
use volhook_core::decision::Access;
use volhook_core::decision::MountFlags;
use volhook_core::decision::Sharing;
use volhook_core::last_step::PodRoot;
use volhook_core::last_step::WhyFolders;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeasedVolume;
use volhook_core::record::PlannedVolume;
use volhook_core::record::RefusalKind;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Step;
use volhook_core::stage::Apply;
use volhook_core::stage::Stage;
use volhook_core::totals::BUCKETS;
use volhook_core::totals::Histogram;
use volhook_core::totals::Totals;
use volhook_core::volume::PodMember;

macro_rules! shapes {
    ($($name:ident { $($key:literal $field:ident),+ $(,)? })+) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Out) -> Put {
                let Self { $($field),+ } = self;
                put_fields!(out; $($key $field),+)
            }

            fn take(from: &mut Decoder<'_>) -> Taken<Self> {
                take_fields!(from; $($key $field),+);
                Ok(Self { $($field),+ })
            }
        }
    )+};
}

shapes! {
    Grant { 1 attempt, 2 container, 3 holder, 4 leases, 5 since, 6 since_boot_ms }
    Holder {
        1 machine_id,
        2 boot_id,
        3 pid_namespace,
        4 pid,
        5 start_time,
        6 mount_namespace,
        7 mount_namespace_id,
    }
    LeasedVolume { 1 volume, 2 uuid, 3 driver, 4 access, 5 sharing, 6 image, 7 target }
    PlannedVolume { 1 origin, 2 volume, 3 driver, 4 target, 5 path, 6 subpath, 7 access, 8 sharing, 9 apply }
    Claim {
        1 origin,
        2 volume,
        3 target,
        4 driver,
        5 options,
        6 labels,
        7 access,
        8 no_copy,
        9 subpath,
        10 flags,
        11 member,
        12 storage,
    }
    Totals { 1 started, 2 released, 3 refused, 4 faults, 5 start_steps, 6 stop_steps }
    Histogram { 1 buckets, 2 sum }
    MountFlags { 1 nosuid, 2 nodev, 3 noexec }
    PodMember { 1 pod, 2 member }
}

macro_rules! sets {
    ($($name:ident $(or $unknown:ident)? { $($number:literal $value:ident),+ $(,)? })+) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Out) -> Put {
                out.u8(match self {
                    $(Self::$value => $number,)+
                })?;
                Ok(())
            }

            fn take(from: &mut Decoder<'_>) -> Taken<Self> {
                match from.u64()? {
                    $($number => Ok(Self::$value),)+
                    other => sets!(@unknown $name other $($unknown)?),
                }
            }
        }
    )+};
    (@unknown $name:ident $number:ident) => {
        Err(wrong(format_args!("{} {} is not known", stringify!($name), $number)))
    };
    (@unknown $name:ident $number:ident $unknown:ident) => {{
        let _ = $number;
        Ok($name::$unknown)
    }};
}

sets! {
    Access { 1 ReadOnly, 2 ReadWrite }
    Sharing { 1 Shared, 2 SingleWriter, 3 Exclusive }
    Stage { 1 Spec, 2 Live }
    Apply { 1 Spec, 2 Inject }
    ReleaseReason { 1 Poststop, 2 Reaped, 3 Undone, 4 Superseded, 5 Expired, 6 Broken, 7 Done }
    Step or Other {
        0 Other,
        1 Spec,
        2 Process,
        3 Pod,
        4 Plugins,
        5 Resolve,
        6 Volumes,
        7 Plan,
        8 Journal,
        9 Fill,
        10 Record,
        11 Sources,
        12 Mounts,
        13 Release,
        14 Total,
    }
    RefusalKind or Other {
        0 Other,
        1 Failed,
        2 Usage,
        3 NoSuchVolume,
        4 NoSuchPod,
        5 NoSuchPlugin,
        6 Held,
        7 Exists,
        8 TooLate,
        9 NoRoom,
        10 Config,
        11 Internal,
        12 Interrupted,
    }
    // 0 is what a pod's root is that has no such reason.
    WhyFolders {
        1 ReadOnly,
        2 Propagates,
        3 MountAtRoot,
        4 NoOwnDev,
        5 NoOwnRoot,
        6 NoOwnMounts,
        7 NoEntry,
        8 Architecture,
        9 OnlyRead,
        10 Replaced,
        11 Directory,
    }
}

impl Wire for PodRoot {
    fn put(&self, out: &mut Out) -> Put {
        match self {
            Self::Overlay => {
                out.u8(0)?;
                Ok(())
            }
            Self::Folders(why) => why.put(out),
        }
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        if from.probe().u64()? == 0 {
            from.u64()?;
            return Ok(Self::Overlay);
        }
        WhyFolders::take(from).map(Self::Folders)
    }
}

impl Count for Histogram {
    fn add(&mut self, more: Self) {
        self.merge(&more);
    }
}

/// The parts of a histogram, without those at the end in which nothing is.
impl Wire for [u64; BUCKETS] {
    fn put(&self, out: &mut Out) -> Put {
        let length = self.iter().rposition(|bucket| *bucket > 0).map_or(0, |last| last + 1);
        put_array(out, length)?;
        self[..length].iter().try_for_each(|bucket| bucket.put(out))
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        let mut buckets = [0; BUCKETS];
        for place in 0..take_array(from)? {
            let bucket = usize::try_from(place).ok().and_then(|place| buckets.get_mut(place));
            *bucket.ok_or_else(|| wrong("a histogram of more parts than there are"))? = from.u64()?;
        }
        Ok(buckets)
    }
}

/// An array of what made it and of its key, destination or name.
impl Wire for Origin {
    fn put(&self, out: &mut Out) -> Put {
        let (number, text) = match self {
            Self::Annotation(key) => (1, key),
            Self::SpecMount(destination) => (2, destination),
            Self::Policy(name) => (3, name),
        };
        out.array(2)?.u8(number)?;
        text.put(out)
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        if from.array()? != Some(2) {
            return Err(wrong("the origin of a claim is no pair"));
        }
        match from.u64()? {
            1 => String::take(from).map(Self::Annotation),
            2 => String::take(from).map(Self::SpecMount),
            3 => String::take(from).map(Self::Policy),
            other => Err(wrong(format_args!("origin {other} is not known"))),
        }
    }
}
