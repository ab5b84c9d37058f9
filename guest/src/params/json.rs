//! A reader for the one JSON shape parameters have: a flat object.
//!
//! It accepts exactly RFC 8259 where that describes an object of strings, numbers, booleans and
//! lists of strings, and refuses everything else with a message that says what and where. Numbers
//! stay text, so that a policy that reads none does not carry a number parser.

/// One parameter's value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    String(String),
    /// As written, already known to follow the grammar.
    Number(String),
    Bool(bool),
    List(Vec<String>),
}

impl Value {
    /// The value as an error message shows it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::String(text) => ["\"", text, "\""].concat(),
            Self::Number(digits) => digits.clone(),
            Self::Bool(true) => "true".to_owned(),
            Self::Bool(false) => "false".to_owned(),
            Self::List(_) => "a list".to_owned(),
        }
    }
}

/// Reads a whole text as one object, in the order written.
pub(super) fn object(text: &str) -> Result<Vec<(String, Value)>, String> {
    let mut reader = Reader { text, rest: text };
    let mut members: Vec<(String, Value)> = Vec::new();
    reader.expect('{', "an object")?;
    if !reader.take('}') {
        loop {
            let name = reader.string("a parameter name")?;
            if members.iter().any(|(known, _)| *known == name) {
                return Err(["parameter `", &name, "` is given twice"].concat());
            }
            reader.expect(':', "a colon")?;
            let value = reader.value(&name)?;
            members.push((name, value));
            if reader.take('}') {
                break;
            }
            reader.expect(',', "a comma or the end of the object")?;
        }
    }
    reader.skip_space();
    if reader.rest.is_empty() {
        Ok(members)
    } else {
        Err(reader.expected("nothing after the object"))
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn expected(&self, what: &str) -> String {
        let offset = self.text.len() - self.rest.len();
        [
            "parameters: expected ",
            what,
            " at byte ",
            &offset.to_string(),
        ]
        .concat()
    }

    fn skip_space(&mut self) {
        // RFC 8259 2: these four and no others.
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes `token` after any space, if it comes next.
    fn take(&mut self, token: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char, what: &str) -> Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    fn value(&mut self, name: &str) -> Result<Value, String> {
        self.skip_space();
        match self.rest.bytes().next() {
            Some(b'"') => self.string("a string").map(Value::String),
            Some(b'[') => self.list(name).map(Value::List),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            _ => {
                for (word, on) in [("true", true), ("false", false)] {
                    if let Some(rest) = self.rest.strip_prefix(word) {
                        self.rest = rest;
                        return Ok(Value::Bool(on));
                    }
                }
                Err([
                    "parameter `",
                    name,
                    "`: expected a string, a number, true, false or a list of strings",
                ]
                .concat())
            }
        }
    }

    fn list(&mut self, name: &str) -> Result<Vec<String>, String> {
        let mut items = Vec::new();
        self.expect('[', "a list")?;
        if self.take(']') {
            return Ok(items);
        }
        loop {
            self.skip_space();
            if !self.rest.starts_with('"') {
                return Err(["parameter `", name, "`: a list may hold strings only"].concat());
            }
            items.push(self.string("a string")?);
            if self.take(']') {
                return Ok(items);
            }
            self.expect(',', "a comma or the end of the list")?;
        }
    }

    /// RFC 8259 6: `-`, an integer without leading zeros, a fraction, an exponent.
    fn number(&mut self) -> Result<String, String> {
        let start = self.rest;
        let mut rest = start.strip_prefix('-').unwrap_or(start);
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let integer = digits(rest);
        let mut valid = integer == 1 || (integer > 1 && !rest.starts_with('0'));
        rest = rest.get(integer..).unwrap_or_default();
        if let Some(fraction) = rest.strip_prefix('.') {
            let count = digits(fraction);
            valid &= count > 0;
            rest = fraction.get(count..).unwrap_or_default();
        }
        if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let count = digits(exponent);
            valid &= count > 0;
            rest = exponent.get(count..).unwrap_or_default();
        }
        if !valid {
            return Err(self.expected("a number"));
        }
        self.rest = rest;
        let length = start.len() - rest.len();
        Ok(start.get(..length).unwrap_or_default().to_owned())
    }

    fn string(&mut self, what: &str) -> Result<String, String> {
        self.expect('"', what)?;
        let mut text = String::new();
        loop {
            let mut chars = self.rest.chars();
            let next = chars.next();
            let before = self.rest;
            self.rest = chars.as_str();
            match next {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                // RFC 8259 7: control characters must be escaped.
                Some(plain) if plain >= ' ' => text.push(plain),
                _ => {
                    self.rest = before;
                    return Err(self.expected("the end of a string"));
                }
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, String> {
        let before = self.rest;
        let mut chars = self.rest.chars();
        let escaped = chars.next();
        self.rest = chars.as_str();
        let plain = match escaped {
            Some(same @ ('"' | '\\' | '/')) => Some(same),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('u') => self.code_point(),
            _ => None,
        };
        plain.ok_or_else(|| {
            self.rest = before;
            self.expected("an escape")
        })
    }

    /// Four hex digits, or two groups of them that form a surrogate pair.
    fn code_point(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        self.rest = self.rest.strip_prefix("\\u")?;
        let second = self.hex4()?;
        if !(0xdc00..0xe000).contains(&second) {
            return None;
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }

    fn hex4(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        digits
            .chars()
            .try_fold(0, |sum, digit| Some(sum * 16 + digit.to_digit(16)?))
    }
}
