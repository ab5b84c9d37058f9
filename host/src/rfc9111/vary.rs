//! `Vary`: which request fields choose among the responses of one key (RFC 9111 4.1).
//!
//! Two requests get the same secondary key exactly when their nominated fields match. Matching may
//! ignore what a field's own definition says does not matter, and nothing else: a field that is
//! not known to be a list is compared as it came.

use http::HeaderMap;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, HeaderName, HeaderValue, VARY,
};

use super::list;

/// The first byte of every secondary key. As long as no primary key begins with it, none of the
/// two kinds equals one of the other.
pub const SECONDARY: u8 = 0xff;

/// The field in which an origin is told the client's address. It is of the edge's own making, so
/// what chose the response is not in the request.
const CLIENT_ADDRESS: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The request fields that `Vary` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nominated {
    /// None: one response serves every request for the key.
    #[default]
    Nothing,
    /// These, sorted and without duplicates.
    Fields(Vec<HeaderName>),
    /// Anything, `*`; also the client's address, and what cannot be read as a list of field names.
    Any,
}

impl Nominated {
    /// Reads every `Vary` line of a response.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for line in headers.get_all(VARY) {
            for element in list::elements(line.as_bytes()) {
                // `*` is a token and would pass for a name.
                match HeaderName::from_bytes(element) {
                    Ok(name) if element != b"*" && name != CLIENT_ADDRESS => names.push(name),
                    _ => return Self::Any,
                }
            }
        }
        if names.is_empty() {
            return Self::Nothing;
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Self::Fields(names)
    }
}

/// Appends to `out` the secondary key of a request: `primary`, and for each of `fields` its name
/// and its normalised value in `headers`. Different primaries, fields or values give different
/// bytes, and a field that is absent differs from an empty one.
pub fn secondary(primary: &[u8], fields: &[HeaderName], headers: &HeaderMap, out: &mut Vec<u8>) {
    out.push(SECONDARY);
    counted(out, |out| out.extend_from_slice(primary));
    for name in fields {
        counted(out, |out| out.extend_from_slice(name.as_str().as_bytes()));
        let mut lines = headers.get_all(name).iter().peekable();
        if lines.peek().is_none() {
            out.push(0);
        } else {
            out.push(1);
            counted(out, |out| normalise(name, lines, out));
        }
    }
}

/// The parts of a key that [`secondary`] made: the primary key, and the nominated fields with their
/// normalised values (none: absent). Any other key is all primary.
pub fn split(key: &[u8]) -> (&[u8], Vec<(&[u8], Option<&[u8]>)>) {
    let parse = || {
        let mut rest = key.strip_prefix(&[SECONDARY])?;
        let primary = take(&mut rest)?;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let name = take(&mut rest)?;
            let (present, after) = rest.split_first()?;
            rest = after;
            let value = if *present == 0 {
                None
            } else {
                Some(take(&mut rest)?)
            };
            fields.push((name, value));
        }
        Some((primary, fields))
    };
    parse().unwrap_or_else(|| (key, Vec::new()))
}

/// Takes what [`counted`] appended off the front.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (taken, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// Appends what `write` appends, with its length in front.
fn counted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    write(out);
    let written = out.len().saturating_sub(start);
    // Request heads are bounded far below the range of the length.
    let length = u32::try_from(written).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = out.get_mut(at..start) {
        place.copy_from_slice(&length);
    }
}

/// What is known of a field's syntax.
enum Syntax {
    /// A list whose order, and whose letters' case, mean nothing.
    Set,
    /// A list that is ranked by weight; among equal weights order may mean something, and letters'
    /// case means nothing (RFC 9110 12.5.4).
    Ranking,
    /// A list in which the case of letters means nothing before the first parameter (RFC 9110 8.3.1)
    /// and may matter from there on.
    List,
    /// `Cookie`, whose lines, if HTTP/2 split it, are joined by `"; "` (RFC 9113 8.2.3).
    Crumbs,
    /// Nothing: whitespace and order may matter.
    Opaque,
}

fn syntax(name: &HeaderName) -> Syntax {
    if *name == ACCEPT_ENCODING || *name == ACCEPT_CHARSET {
        Syntax::Set
    } else if *name == ACCEPT_LANGUAGE {
        Syntax::Ranking
    } else if *name == ACCEPT {
        Syntax::List
    } else if *name == COOKIE {
        Syntax::Crumbs
    } else {
        Syntax::Opaque
    }
}

/// Appends the value of one field, in the form that all its equivalents share.
fn normalise<'a>(
    name: &HeaderName,
    lines: impl Iterator<Item = &'a HeaderValue>,
    out: &mut Vec<u8>,
) {
    let lines = lines.map(|line| line.as_bytes().trim_ascii());
    match syntax(name) {
        // Combined lines are joined by a comma and a space (RFC 9110 5.3).
        Syntax::Opaque => join(lines, b", ", out),
        Syntax::Crumbs => join(lines, b"; ", out),
        Syntax::List => enumerate(lines.flat_map(list::elements), Case::OfNames, out),
        Syntax::Set => ranked(lines, Order::Free, out),
        Syntax::Ranking => ranked(lines, Order::Kept, out),
    }
}

fn join<'a>(parts: impl Iterator<Item = &'a [u8]>, separator: &[u8], out: &mut Vec<u8>) {
    for (number, part) in parts.enumerate() {
        if number > 0 {
            out.extend_from_slice(separator);
        }
        out.extend_from_slice(part);
    }
}

/// Where the case of letters means nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    OfAll,
    OfNames,
}

/// Appends the elements of a list, each with its weight last and in one form. A weight of 1 is left
/// out: it is what an element without one has (RFC 9110 12.4.2).
fn enumerate<'a>(elements: impl Iterator<Item = &'a [u8]>, case: Case, out: &mut Vec<u8>) {
    for (number, element) in elements.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        let start = out.len();
        let (item, weight) = weighted(element);
        out.extend_from_slice(item);
        let named = match case {
            Case::OfAll => item.len(),
            Case::OfNames => {
                let parameters = item.iter().position(|&byte| byte == b';');
                parameters.unwrap_or(item.len())
            }
        };
        if let Some(name) = out.get_mut(start..start.saturating_add(named)) {
            name.make_ascii_lowercase();
        }
        if weight < WEIGHT_MAX {
            let digit = |place| b'0' + u8::try_from(weight / place % 10).unwrap_or_default();
            out.extend_from_slice(b";q=0.");
            out.extend([digit(100), digit(10), digit(1)]);
        }
    }
}

/// Whether elements of equal weight keep the order they came in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Kept,
    Free,
}

/// The longest list that is put in order. A longer one is legal but comes from no browser; it is
/// compared in the order it came in, at worst as one more variant.
const RANKED_MAX: usize = 24;

/// Appends the elements by falling weight.
fn ranked<'a>(lines: impl Iterator<Item = &'a [u8]>, order: Order, out: &mut Vec<u8>) {
    let mut elements = lines.flat_map(list::elements);
    // Sorted on the stack: this runs for each hit on a response that varies.
    let mut slots: [&[u8]; RANKED_MAX] = [&[]; RANKED_MAX];
    let mut count = 0;
    for (slot, element) in slots.iter_mut().zip(elements.by_ref()) {
        *slot = element;
        count += 1;
    }
    let (sorted, _) = slots.split_at_mut(count);
    let rest = elements.next();
    if rest.is_none() {
        // Insertion keeps equal elements in order, and such lists are short and nearly sorted.
        for end in 2..=sorted.len() {
            let (front, _) = sorted.split_at_mut(end);
            sink_last(front, order);
        }
    }
    let all = sorted.iter().copied().chain(rest).chain(elements);
    enumerate(all, Case::OfAll, out);
}

/// Moves the last element forward to its place.
fn sink_last(sorted: &mut [&[u8]], order: Order) {
    let Some((last, front)) = sorted.split_last() else {
        return;
    };
    let place = front
        .iter()
        .position(|earlier| before(last, earlier, order));
    if let Some(tail) = place.and_then(|place| sorted.get_mut(place..)) {
        tail.rotate_right(1);
    }
}

/// Whether `one` must stand before `other`, which came first.
fn before(one: &[u8], other: &[u8], order: Order) -> bool {
    let ((one, heavy), (other, weight)) = (weighted(one), weighted(other));
    match heavy.cmp(&weight) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => {
            let one = one.iter().map(u8::to_ascii_lowercase);
            order == Order::Free && one.lt(other.iter().map(u8::to_ascii_lowercase))
        }
    }
}

/// The weight of what has none.
const WEIGHT_MAX: u16 = 1000;

/// A list element without its weight, and its weight in thousandths (RFC 9110 12.4.2). What cannot
/// be read as a weight, or is not last, is part of the element.
fn weighted(element: &[u8]) -> (&[u8], u16) {
    let weight = element
        .iter()
        .rposition(|&byte| byte == b';')
        .and_then(|at| {
            let (item, parameter) = element.split_at_checked(at)?;
            match parameter.get(1..)?.trim_ascii() {
                [b'q' | b'Q', b'=', value @ ..] => Some((item.trim_ascii(), thousandths(value)?)),
                _ => None,
            }
        });
    weight.unwrap_or((element, WEIGHT_MAX))
}

/// Reads `qvalue`: `0` or `1`, with up to three digits after the point.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, fraction) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] => (whole, fraction),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(&[b'0'; 3]).take(3);
    let fraction = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    Some((u16::from(whole - b'0') * 1000 + fraction).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart_again() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("a=1"));
        let mut key = Vec::new();
        secondary(b"primary", &[ACCEPT, COOKIE], &headers, &mut key);
        let fields: Vec<(&[u8], Option<&[u8]>)> =
            vec![(b"accept", None), (b"cookie", Some(b"a=1"))];
        assert_eq!(split(&key), (&b"primary"[..], fields));
        for end in 0..key.len() {
            split(&key[..end]);
        }
        assert_eq!(split(b"primary"), (&b"primary"[..], Vec::new()));
    }
    use proptest::prelude::*;

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, line)| (name.clone(), HeaderValue::from_str(line).unwrap()))
            .collect()
    }

    fn key(nominated: &[HeaderName], request: &HeaderMap) -> Vec<u8> {
        let mut out = Vec::new();
        secondary(b"primary", nominated, request, &mut out);
        out
    }

    #[test]
    fn vary_is_a_set_of_names_or_anything() {
        let check = |lines: &[&str], expected: Nominated| {
            let lines: Vec<_> = lines.iter().map(|line| (VARY, *line)).collect();
            assert_eq!(Nominated::parse(&fields(&lines)), expected, "{lines:?}");
        };
        let named = |names: &[&'static str]| {
            Nominated::Fields(
                names
                    .iter()
                    .map(|name| HeaderName::from_static(name))
                    .collect(),
            )
        };
        check(&[], Nominated::Nothing);
        check(&["", " , "], Nominated::Nothing);
        check(&["B, a", "A,,c"], named(&["a", "b", "c"]));
        check(&["a, *"], Nominated::Any);
        check(&["a", "*"], Nominated::Any);
        check(&["a, X-Forwarded-For"], Nominated::Any);
        check(&["a b"], Nominated::Any);
        check(&["\"a\""], Nominated::Any);
    }

    #[test]
    fn equivalent_values_share_a_key_and_others_do_not() {
        let check = |name: &HeaderName, one: &[&str], other: &[&str], same: bool| {
            let request = |lines: &[&str]| {
                fields(
                    &lines
                        .iter()
                        .map(|line| (name.clone(), *line))
                        .collect::<Vec<_>>(),
                )
            };
            let nominated = [name.clone()];
            let equal = key(&nominated, &request(one)) == key(&nominated, &request(other));
            assert_eq!(equal, same, "{name}: {one:?} {other:?}");
        };
        let custom = HeaderName::from_static("foo");
        check(&custom, &["1"], &["1"], true);
        check(&custom, &["1", "2"], &["1, 2"], true);
        check(&custom, &["1"], &[" 1\t"], true);
        check(&custom, &["1,2"], &["1, 2"], false);
        check(&custom, &["a"], &["A"], false);
        check(&custom, &["1, 2"], &["2, 1"], false);
        check(&custom, &[], &[""], false);
        check(&COOKIE, &["a=1", "b=2"], &["a=1; b=2"], true);
        check(&ACCEPT_ENCODING, &["gzip, br"], &["BR,gzip"], true);
        check(&ACCEPT_ENCODING, &["gzip", "br"], &["br ,, gzip"], true);
        check(
            &ACCEPT_ENCODING,
            &["gzip;q=0.5, br"],
            &["br, gzip;q=0.5"],
            true,
        );
        check(
            &ACCEPT_ENCODING,
            &["gzip;q=0.5, br"],
            &["br;q=0.5, gzip"],
            false,
        );
        check(&ACCEPT_ENCODING, &["gzip"], &["gzip, br"], false);
        check(
            &ACCEPT_ENCODING,
            &["gzip;q=1.0, br"],
            &["gzip, br ; Q=1"],
            true,
        );
        check(&ACCEPT_ENCODING, &["a;q=1, a-b"], &["a-b, a"], true);
        check(&ACCEPT_ENCODING, &["br;q=0.50"], &["br;q=0.5"], true);
        check(&ACCEPT_ENCODING, &["br;q=0"], &["br"], false);
        check(&ACCEPT_LANGUAGE, &["en;q=0.5, de"], &["DE,en;q=0.5"], true);
        check(&ACCEPT_LANGUAGE, &["en, de"], &["de, en"], false);
        check(&ACCEPT, &["text/html, a/b"], &["text/html,a/b"], true);
        check(&ACCEPT, &["text/html, a/b"], &["a/b,text/html"], false);
        check(&ACCEPT, &["Text/HTML;q=0.5"], &["text/html; q=0.50"], true);
        check(&ACCEPT, &["a/b;x=Y"], &["A/b;x=Y"], true);
        check(&ACCEPT, &["a/b;x=Y"], &["a/b;x=y"], false);
        check(&ACCEPT, &["a/b;q=1;x=y"], &["a/b;x=y"], false);
        check(&ACCEPT, &["a/b;x=\";q=1\""], &["a/b;x=\""], false);
        let long = vec!["x"; RANKED_MAX].join(",") + ",b,a";
        check(&ACCEPT_ENCODING, &[&long], &[&long.to_uppercase()], true);
    }

    #[test]
    fn weights_are_thousandths() {
        for (element, expected) in [
            ("a", 1000),
            ("a;q=1", 1000),
            ("a;q=0", 0),
            ("a; Q=0.5", 500),
            ("a;v=1;q=0.25", 250),
            ("a;q=0.25;v=1", 1000),
            ("a;q=0.125", 125),
            ("a;q=1.5", 1000),
            ("a;q=0.1234", 1000),
            ("a;q=x", 1000),
            ("a;q=", 1000),
        ] {
            assert_eq!(weighted(element.as_bytes()).1, expected, "{element}");
        }
    }

    #[test]
    fn nothing_is_confused_with_a_field_of_another_name() {
        let request = fields(&[(ACCEPT, "x"), (COOKIE, "x")]);
        assert_ne!(key(&[ACCEPT], &request), key(&[COOKIE], &request));
        assert_ne!(key(&[ACCEPT], &request), key(&[], &request));
    }

    /// A primary key and the values of two fields that are compared as they came.
    type Asked = (Vec<u8>, Option<String>, Option<String>);

    fn asked() -> impl Strategy<Value = Asked> {
        let value =
            || prop::option::of("[ab\u{1}]{0,3}".prop_map(|text| text.replace('\u{1}', ",")));
        (prop::collection::vec(any::<u8>(), 0..4), value(), value())
    }

    fn asked_key((primary, one, other): &Asked) -> Vec<u8> {
        let names = [
            HeaderName::from_static("x-a"),
            HeaderName::from_static("x-b"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in names.iter().zip([one, other]) {
            if let Some(value) = value {
                headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
            }
        }
        let mut out = Vec::new();
        secondary(primary, &names, &headers, &mut out);
        out
    }

    proptest! {
        #[test]
        fn keys_are_equal_only_for_equal_requests(one in asked(), other in asked()) {
            prop_assert_eq!(asked_key(&one) == asked_key(&other), one == other);
        }

        #[test]
        fn no_key_is_the_beginning_of_another(one in asked(), other in asked()) {
            let (one_key, other_key) = (asked_key(&one), asked_key(&other));
            prop_assert!(one == other || !one_key.starts_with(&other_key));
        }

        #[test]
        fn order_never_matters_to_a_set(mut codings in prop::collection::vec("[a-c]{1,2}(;q=0\\.[0-9])?", 0..8)) {
            let line = |codings: &[String]| fields(&[(ACCEPT_ENCODING, &codings.join(", "))]);
            let one = key(&[ACCEPT_ENCODING], &line(&codings));
            codings.reverse();
            prop_assert_eq!(one, key(&[ACCEPT_ENCODING], &line(&codings)));
        }
    }
}
