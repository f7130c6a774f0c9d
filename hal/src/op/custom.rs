//! Ops that others define.

use crate::{Graph, Layout, Op, OpDesc, Result, reference::Array};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An op defined outside the catalogue. Devices that have no kernel for it run its decomposition.
pub trait CustomOp: fmt::Debug + Send + Sync {
    /// A unique name, such as `my_crate.gelu`.
    fn name(&self) -> &str;

    /// The attributes as text; two ops of one name and one text are the same op.
    fn attributes(&self) -> String {
        String::new()
    }

    /// Checks the operands' layouts; the message says what would be right.
    fn check(&self, inputs: &[Layout], outputs: &[Layout]) -> Result<(), String>;

    /// The meaning, in f64. `outputs` hold what the output memory held before.
    fn reference(&self, inputs: &[Array], outputs: &mut [Array]);

    /// Descriptions for the conformance suite to try; inputs are filled with normal random numbers.
    fn cases(&self) -> Vec<OpDesc> {
        Vec::new()
    }

    /// Writes the op as other ops; `None` when it can't be.
    fn decompose(&self, _op: &Op, _graph: &mut Graph) -> Option<Result<()>> {
        None
    }
}

/// A shared [`CustomOp`], compared by name and attributes.
#[derive(Clone, Debug)]
pub struct CustomRef(pub Arc<dyn CustomOp>);

impl PartialEq for CustomRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name() && self.0.attributes() == other.0.attributes()
    }
}

impl Eq for CustomRef {}

impl Hash for CustomRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
        self.0.attributes().hash(state);
    }
}

impl Serialize for CustomRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (self.0.name(), self.0.attributes()).serialize(s)
    }
}

impl<'de> Deserialize<'de> for CustomRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (name, _) = <(String, String)>::deserialize(d)?;
        Err(serde::de::Error::custom(format!("the custom op {name:?} is code and can't be read from a file")))
    }
}
