//! What instructions and declarations look like, before names mean anything.

use super::PtxError;
use super::lex::{Kind, Token};
use super::types::{Opcode, Type};

/// An operand as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand<'a> {
    /// A register, a variable or a label, with what is added to it.
    Name(&'a str, i64),
    Int(u64),
    Single(u32),
    Double(f64),
    /// `[…]`
    Address(Box<Operand<'a>>),
    /// `{…}`
    Vector(Vec<Operand<'a>>),
    /// `a|b`
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `!a`
    Not(&'a str),
    /// `(…)`
    List(Vec<Operand<'a>>),
    /// `_`
    Sink,
}

/// An instruction as it is written.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    pub line: usize,
    /// The predicate, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: Opcode<'a>,
    pub operands: Vec<Operand<'a>>,
}

/// A variable as it is declared.
#[derive(Debug)]
pub(super) struct Variable<'a> {
    pub name: &'a str,
    pub bytes: u64,
    pub align: u64,
    /// Whether its size is left to the launch.
    pub unsized_array: bool,
    pub init: Vec<u8>,
}

/// A place among the tokens.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
}

impl<'t, 'a> Cursor<'t, 'a> {
    pub(super) fn new(tokens: &'t [Token<'a>]) -> Self {
        Self { tokens, at: 0 }
    }

    /// The line of the next token, or of the last.
    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    pub(super) fn peek(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at).map(|t| t.kind)
    }

    /// The token after the next.
    pub(super) fn second(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at + 1).map(|t| t.kind)
    }

    pub(super) fn next(&mut self) -> Option<Kind<'a>> {
        let kind = self.peek();
        self.at += 1;
        kind
    }

    /// An error here.
    pub(super) fn wrong<T>(&self, message: impl Into<String>) -> Result<T, PtxError> {
        Err(PtxError { line: self.line(), message: message.into() })
    }

    /// An error about the next token.
    fn unexpected<T>(&self, wanted: &str) -> Result<T, PtxError> {
        match self.peek() {
            Some(Kind::Word(w)) => self.wrong(format!("`{w}` where {wanted} was expected")),
            Some(kind) => self.wrong(format!("{kind:?} where {wanted} was expected")),
            None => self.wrong(format!("the text ends where {wanted} was expected")),
        }
    }

    /// Takes a character if it is next.
    pub(super) fn mark(&mut self, c: char) -> bool {
        let found = self.peek() == Some(Kind::Mark(c));
        self.at += usize::from(found);
        found
    }

    /// Takes a character that has to be next.
    pub(super) fn expect(&mut self, c: char) -> Result<(), PtxError> {
        if self.mark(c) { Ok(()) } else { self.unexpected(&format!("`{c}`")) }
    }

    /// Takes a word if it is next.
    pub(super) fn word_is(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn word(&mut self) -> Result<&'a str, PtxError> {
        let Some(Kind::Word(word)) = self.peek() else { return self.unexpected("a name") };
        self.at += 1;
        Ok(word)
    }

    pub(super) fn int(&mut self) -> Result<u64, PtxError> {
        let Some(Kind::Int(value)) = self.peek() else { return self.unexpected("an integer") };
        self.at += 1;
        Ok(value)
    }

    /// Leaves out the rest of the line.
    pub(super) fn skip_line(&mut self) {
        let line = self.line();
        while self.tokens.get(self.at).is_some_and(|t| t.line == line) {
            self.at += 1;
        }
    }

    /// Leaves out everything through the next `;`.
    pub(super) fn skip_statement(&mut self) {
        while let Some(kind) = self.next() {
            if kind == Kind::Mark(';') {
                return;
            }
        }
    }

    /// The tokens between the braces that begin here.
    pub(super) fn braces(&mut self) -> Result<&'t [Token<'a>], PtxError> {
        self.expect('{')?;
        let first = self.at;
        let mut depth = 1;
        while let Some(kind) = self.next() {
            match kind {
                Kind::Mark('{') => depth += 1,
                Kind::Mark('}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(&self.tokens[first..self.at - 1]);
            }
        }
        self.wrong("a `{` without its `}`")
    }

    /// `+ 4`, `- 4` or `+-4`, if it is there.
    fn offset(&mut self) -> Result<i64, PtxError> {
        let plus = self.mark('+');
        let minus = self.mark('-');
        if !plus && !minus {
            return Ok(0);
        }
        let value = self.int()? as i64;
        Ok(if minus { value.wrapping_neg() } else { value })
    }

    fn operands(&mut self, end: char) -> Result<Vec<Operand<'a>>, PtxError> {
        let mut found = Vec::new();
        if self.mark(end) {
            return Ok(found);
        }
        loop {
            found.push(self.operand()?);
            if !self.mark(',') {
                self.expect(end)?;
                return Ok(found);
            }
        }
    }

    fn operand(&mut self) -> Result<Operand<'a>, PtxError> {
        if self.mark('[') {
            let inner = self.operand()?;
            self.expect(']')?;
            return Ok(Operand::Address(Box::new(inner)));
        }
        if self.mark('{') {
            return Ok(Operand::Vector(self.operands('}')?));
        }
        if self.mark('(') {
            return Ok(Operand::List(self.operands(')')?));
        }
        if self.mark('!') {
            return Ok(Operand::Not(self.word()?));
        }
        let minus = self.mark('-');
        let first = match self.peek() {
            Some(Kind::Int(v)) => Operand::Int(if minus { v.wrapping_neg() } else { v }),
            Some(Kind::Double(v)) => Operand::Double(if minus { -v } else { v }),
            Some(Kind::Single(v)) if !minus => Operand::Single(v),
            Some(Kind::Word("_")) if !minus => Operand::Sink,
            Some(Kind::Word(name)) if !minus => {
                self.at += 1;
                let offset = self.offset()?;
                self.at -= 1;
                Operand::Name(name, offset)
            }
            _ => return self.unexpected("an operand"),
        };
        self.at += 1;
        if self.mark('|') {
            return Ok(Operand::Pair(Box::new(first), Box::new(self.operand()?)));
        }
        Ok(first)
    }

    /// An instruction through its `;`.
    pub(super) fn statement(&mut self) -> Result<Statement<'a>, PtxError> {
        let line = self.line();
        let guard = if self.mark('@') {
            let negated = self.mark('!');
            Some((self.word()?, negated))
        } else {
            None
        };
        let opcode = Opcode::new(self.word()?);
        let operands = self.operands(';')?;
        Ok(Statement { line, guard, opcode, operands })
    }

    /// Variables, from what follows their space through the `;`.
    pub(super) fn variables(&mut self) -> Result<Vec<Variable<'a>>, PtxError> {
        let (bytes, align) = self.kind()?;
        let mut found = vec![self.variable(bytes, align)?];
        while self.mark(',') {
            found.push(self.variable(bytes, align)?);
        }
        self.expect(';')?;
        Ok(found)
    }

    /// A parameter, from what follows `.param`.
    pub(super) fn parameter(&mut self) -> Result<Variable<'a>, PtxError> {
        let (bytes, align) = self.kind()?;
        self.variable(bytes, align)
    }

    /// Alignment and type of a variable: bytes of an element, and what addresses are a multiple of.
    fn kind(&mut self) -> Result<(u64, u64), PtxError> {
        let (mut bytes, mut align, mut vector) = (None, None, 1);
        while let Some(Kind::Word(word)) = self.peek() {
            let Some(modifier) = word.strip_prefix('.') else { break };
            self.at += 1;
            match modifier {
                "align" => align = Some(self.int()?),
                // Of pointers: where they point, which nothing here relies on.
                "ptr" => {
                    while let Some(Kind::Word(".global" | ".shared" | ".local" | ".const")) = self.peek() {
                        self.at += 1;
                    }
                    if self.word_is(".align") {
                        self.int()?;
                    }
                }
                "v2" => vector = 2,
                "v4" => vector = 4,
                _ => match Type::named(modifier) {
                    Some(t) if t.bits() >= 8 => bytes = Some(u64::from(t.bits() / 8)),
                    _ => return self.wrong(format!("`{word}` isn't the type of a variable")),
                },
            }
        }
        let Some(bytes) = bytes else { return self.unexpected("a type") };
        let align = align.unwrap_or(bytes * vector);
        if !align.is_power_of_two() || align > 1 << 16 {
            return self.wrong(format!("an alignment of {align}; it is a power of two"));
        }
        Ok((bytes * vector, align))
    }

    fn variable(&mut self, element: u64, align: u64) -> Result<Variable<'a>, PtxError> {
        let name = self.word()?;
        let (mut bytes, mut unsized_array) = (element, false);
        while self.mark('[') {
            if self.mark(']') {
                unsized_array = true;
                continue;
            }
            let n = self.int()?;
            self.expect(']')?;
            let Some(product) = bytes.checked_mul(n).filter(|&b| b <= 1 << 32) else {
                return self.wrong(format!("`{name}` is larger than 4 GiB"));
            };
            bytes = product;
        }
        let mut init = Vec::new();
        if self.mark('=') {
            self.initial(element as usize, &mut init)?;
            if unsized_array {
                (bytes, unsized_array) = (init.len() as u64, false);
            }
            if init.len() as u64 > bytes {
                return self.wrong(format!("`{name}` has {bytes} bytes, and starts with {}", init.len()));
            }
        } else if unsized_array {
            bytes = 0;
        }
        Ok(Variable { name, bytes, align, unsized_array, init })
    }

    fn initial(&mut self, element: usize, init: &mut Vec<u8>) -> Result<(), PtxError> {
        if self.mark('{') {
            while !self.mark('}') {
                self.initial(element, init)?;
                if !self.mark(',') && self.peek() != Some(Kind::Mark('}')) {
                    return self.unexpected("`,` or `}`");
                }
            }
            return Ok(());
        }
        let minus = self.mark('-');
        let bits = match (self.peek(), element) {
            (Some(Kind::Int(v)), _) => {
                if minus {
                    v.wrapping_neg()
                } else {
                    v
                }
            }
            (Some(Kind::Single(v)), 4) => u64::from(v),
            (Some(Kind::Double(v)), 8) => (if minus { -v } else { v }).to_bits(),
            (Some(Kind::Double(v)), 4) => u64::from((if minus { -v } else { v } as f32).to_bits()),
            _ => return self.unexpected("a number to start with"),
        };
        self.at += 1;
        init.extend_from_slice(&bits.to_le_bytes()[..element.min(8)]);
        Ok(())
    }
}
