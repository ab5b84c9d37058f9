//! The view reads what the host packs, and answers empty where the packing makes no sense.

use super::{Request, wit};

const TEXT: &str = "GETexample.com/a?b=?c\n\nlast\n";

fn packed(text: &str, ends: [u32; 3], present: u32) -> wit::Request {
    let [method_end, authority_end, target_end] = ends;
    wit::Request {
        text: text.to_owned(),
        method_end,
        authority_end,
        target_end,
        present,
    }
}

#[test]
fn a_request_is_read_in_place() {
    let packed = packed("GETexample.com/a?b=?cone\n\nlast\n", [3, 14, 21], 0b1101);
    let names = ["a", "b", "c", "d"].map(str::to_owned);
    let request = Request::new(&packed, &names);
    assert_eq!(request.method(), "GET");
    assert_eq!(request.authority(), "example.com");
    assert_eq!(request.target(), "/a?b=?c");
    assert_eq!((request.path(), request.query()), ("/a", Some("b=?c")));
    // Absent and empty differ, and an absent field moves none of the others.
    let fields = [0, 1, 2, 3, 4, 31, 32, usize::MAX].map(|index| request.field(index));
    assert_eq!(
        fields,
        [
            Some("one"),
            None,
            Some(""),
            Some("last"),
            None,
            None,
            None,
            None
        ]
    );
    assert_eq!(request.field_named("d"), Some("last"));
    assert_eq!(
        (request.field_named("b"), request.field_named("z")),
        (None, None)
    );
}

#[test]
fn a_target_without_a_question_mark_has_no_query() {
    let packed = packed("GETexample.com/a", [3, 14, 16], 0);
    let request = Request::new(&packed, &[]);
    assert_eq!((request.path(), request.query()), ("/a", None));
}

#[test]
fn all_32_fields_can_be_declared() {
    let lines: Vec<String> = (0..32).map(|index| index.to_string()).collect();
    let text = lines.join("\n") + "\n";
    let packed = packed(&text, [0, 0, 0], u32::MAX);
    let request = Request::new(&packed, &[]);
    for index in 0..32 {
        assert_eq!(request.field(index), Some(index.to_string().as_str()));
    }
}

#[test]
fn offsets_that_do_not_fit_read_as_empty() {
    for ends in [[u32::MAX; 3], [9, 3, 1], [100, 2, 50]] {
        let packed = packed(TEXT, ends, u32::MAX);
        let request = Request::new(&packed, &[]);
        assert!(
            request.target().is_empty() && request.authority().is_empty(),
            "{ends:?}"
        );
    }
    let unterminated = packed("abc", [0, 0, 0], 0b11);
    let request = Request::new(&unterminated, &[]);
    assert_eq!([request.field(0), request.field(1)], [None, None]);
}
