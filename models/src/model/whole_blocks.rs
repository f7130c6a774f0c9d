//! Heads whose elements don't fill whole blocks of a quantised cache: zeros behind them, which change no score, and
//! whose values are left out of the result.

use super::forward::Pass;
use crate::tape::Var;
use halite_hal::Op;

impl Pass<'_> {
    /// `x [tokens, heads, d]` with zeros behind each head → `[tokens, heads, width]`. It has no gradient.
    pub(super) fn filled_up(&mut self, x: Var, width: usize) -> Var {
        let t = self.tape.tensor(x);
        let d = t.shape[2];
        if d == width {
            return x;
        }
        let wide = self.tape.temporary(t.dtype, &[t.shape[0], t.shape[1], width]);
        self.tape.graph.push(Op::fill(0.0, wide.clone().slice(2, d, width - d)));
        self.tape.graph.push(Op::copy(t, wide.clone().slice(2, 0, d)));
        self.tape.constant(wide)
    }

    /// The first `d` columns of each head of `x [tokens, heads, width]`, without gaps. They have no gradient unless
    /// they are all.
    pub(super) fn first_columns(&mut self, x: Var, d: usize) -> Var {
        let t = self.tape.tensor(x);
        if t.shape[2] == d {
            return x;
        }
        let dense = self.tape.temporary(t.dtype, &[t.shape[0], t.shape[1], d]);
        self.tape.graph.push(Op::copy(t.slice(2, 0, d), dense.clone()));
        self.tape.constant(dense)
    }
}
