//! Enums whose variants stand beside what they say, as `thiserror` has it: this crate has no dependencies.

/// Declares an enum and its `Display`. Behind a variant stand the arguments of a `write!`, which may name its fields.
macro_rules! messages {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $variant:ident $({ $($(#[$of:meta])* $field:ident: $type:ty),* })? => ($($message:tt)+),)*
    }) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$doc])* $variant $({ $($(#[$of])* $field: $type),* })?,)*
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match *self {
                    $($name::$variant $({ $($field),* })? => write!(f, $($message)+),)*
                }
            }
        }
    };
}

pub(crate) use messages;
