//! The bindings made from `wit/`. Nothing else in the kit is generated.

/// The bindings of a driver.
#[doc(hidden)]
pub mod driver_world {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "driver-plugin",
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "__export_driver",
    });
}

/// The bindings of a policy.
#[doc(hidden)]
pub mod policy_world {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "policy-plugin",
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "__export_policy",
    });
}

pub use driver_world::exports::volhook::plugin::driver;
pub use policy_world::exports::volhook::plugin::policy;
