//! What a volhook plugin is written with: the traits to implement, their types, and the export macros.
//!
//! A plugin is a library crate with `crate-type = ["cdylib", "rlib"]` that implements [`Driver`] or [`Policy`]
//! and names its type in [`export_driver!`] or [`export_policy!`]:
//!
//! ```
//! use volhook_plugin::Driver;
//! use volhook_plugin::driver::*;
//!
//! struct Scratch;
//!
//! impl Driver for Scratch {
//!     fn describe() -> Info {
//!         Info { name: "scratch".into(), about: "A directory that anybody may write".into(), ..Info::default() }
//!     }
//!
//!     fn create(request: CreateRequest) -> Result<Creation, Refusal> {
//!         if request.usage.volumes >= 100 {
//!             return Err(Refusal::new("no more than 100 volumes").with_hint("remove some"));
//!         }
//!         Ok(Creation::new(Backing::Directory(Directory { mode: 0o1777, ..Directory::default() })))
//!     }
//!
//!     fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
//!         Ok(Attachment::new(request.access, Sharing::Shared))
//!     }
//! }
//!
//! volhook_plugin::export_driver!(Scratch);
//!
//! // A decision is an ordinary function call, so a test needs no WebAssembly.
//! let asked = volhook_plugin::testing::attach_request("v", Access::ReadOnly);
//! assert_eq!(Scratch::attach(asked).unwrap().access, Access::ReadOnly);
//! ```
//!
//! `volhook plugin new` makes a project with all of that, and `volhook plugin build` makes of it the component that
//! `volhook plugin install` takes. A plugin that panics traps, which volhook reports as the
//! plugin's fault, with the panic's message; a decision against is a [`Refusal`](driver::Refusal).

mod generated;
pub mod image;
#[cfg(not(target_family = "wasm"))]
pub mod native;
#[cfg(target_arch = "wasm32")]
mod panic;
pub mod path;
pub mod root;
pub mod size;
pub mod testing;
mod words;

pub use generated::driver;
pub use generated::policy;

#[doc(inline)]
pub use generated::driver::Guest as Driver;
#[doc(inline)]
pub use generated::policy::Guest as Policy;

#[doc(hidden)]
pub use generated::driver_world;
#[doc(hidden)]
pub use generated::policy_world;
#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub use panic::leave_message;

/// Makes a type that implements [`Driver`] the driver that the component exports.
///
/// On other targets than WebAssembly, for whose linkers the names of the exports are none, it expands to the function
/// that the native runner of `volhook plugin test` calls ([`native`]).
#[macro_export]
macro_rules! export_driver {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exported;

            impl $crate::Driver for Exported {
                fn describe() -> $crate::driver::Info {
                    $crate::leave_message();
                    <$plugin as $crate::Driver>::describe()
                }

                fn create(
                    request: $crate::driver::CreateRequest,
                ) -> Result<$crate::driver::Creation, $crate::driver::Refusal> {
                    $crate::leave_message();
                    <$plugin as $crate::Driver>::create(request)
                }

                fn attach(
                    request: $crate::driver::AttachRequest,
                ) -> Result<$crate::driver::Attachment, $crate::driver::Refusal> {
                    $crate::leave_message();
                    <$plugin as $crate::Driver>::attach(request)
                }
            }

    $crate::driver_world::__export_driver!(Exported with_types_in $crate::driver_world);
        };

        #[doc(hidden)]
        #[cfg(not(target_arch = "wasm32"))]
        pub fn __volhook_native() -> ::std::io::Result<()> {
            $crate::native::serve_driver::<$plugin>()
        }
    };
}

/// Makes a type that implements [`Policy`] the policy that the component exports.
///
/// On other targets than WebAssembly, for whose linkers the names of the exports are none, it expands to the function
/// that the native runner of `volhook plugin test` calls ([`native`]).
#[macro_export]
macro_rules! export_policy {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Exported;

            impl $crate::Policy for Exported {
                fn describe() -> $crate::policy::Info {
                    $crate::leave_message();
                    <$plugin as $crate::Policy>::describe()
                }

                fn claims(
                    request: $crate::policy::ClaimsRequest,
                ) -> Result<$crate::policy::Grant, $crate::policy::Refusal> {
                    $crate::leave_message();
                    <$plugin as $crate::Policy>::claims(request)
                }
            }

    $crate::policy_world::__export_policy!(Exported with_types_in $crate::policy_world);
        };

        #[doc(hidden)]
        #[cfg(not(target_arch = "wasm32"))]
        pub fn __volhook_native() -> ::std::io::Result<()> {
            $crate::native::serve_policy::<$plugin>()
        }
    };
}

/// The value of the pair named `name`, among options, labels or settings.
#[must_use]
pub fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
