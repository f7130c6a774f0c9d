//! What the writer can't write.

use super::Dialect;

/// Why a module can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The module has no compute entry point of that name.
    #[error("there is no compute entry point `{name}`; there is {present}")]
    EntryPoint {
        /// The name that was asked for.
        name: String,
        /// The compute entry points that exist.
        present: String,
    },
    /// A construct that the dialect, or the writer, lacks.
    #[error("{kind} are not supported in {dialect}: `{construct}` in {place}")]
    Unsupported {
        /// The family it belongs to, in the plural: `textures`.
        kind: &'static str,
        /// The construct: `image load`.
        construct: String,
        /// Where it is: "function `main`".
        place: String,
        /// The language that was to be written.
        dialect: Dialect,
    },
    /// An override that has no value yet.
    #[error("override `{name}` has no value; resolve overrides before writing")]
    Override {
        /// The override's name.
        name: String,
    },
    /// A type in storage or uniform memory whose layout C can't express.
    #[error("the layout of `{what}` can't be written in C: {why}")]
    Layout {
        /// The type, or the structure's member.
        what: String,
        /// What WGSL says and what C would say.
        why: String,
    },
    /// A binding outside of what a kernel's arguments can carry.
    #[error("binding of `{name}`: {why}")]
    Binding {
        /// The global variable.
        name: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}
