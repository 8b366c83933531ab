//! The page, of logs that are there only here.

use super::*;
use crate::damage::Damaged;

fn survey(count: u64) -> Survey {
    let segment = |number: u64| Segment {
        number,
        file: format!("<{number}>"),
        indexes: (!number.is_multiple_of(7)).then_some((number * 100, number * 100 + 99)),
        entries: 100,
        bytes: 6000,
        file_bytes: 6400,
        live_entries: 50,
        live_bytes: 3000,
        is_sealed: true,
        ..Segment::default()
    };
    let segments = (1..=count).map(segment).collect();
    Survey { dir: "a & b".to_owned(), prefix: "p_".to_owned(), entries: 50, deleted: 50, is_read: true, segments }
}

#[test]
fn any_number_of_segments_can_be_drawn() {
    for (segments, rows) in [(0, 0), (1, 1), (80, 1), (81, 2), (1000, 13)] {
        let page = page(&survey(segments));
        assert_eq!(page.matches("<g>").count() as u64, segments);
        assert_eq!(page.matches("class=\"row\"").count(), rows);
        assert!(page.contains("a &amp; b") && !page.contains("<1>") && !page.contains("NaN"));
    }
}

#[test]
fn damage_is_drawn_where_it_is() {
    let mut survey = survey(2);
    assert!(!page(&survey).contains("class=\"bad\" x="));
    let path = "p_2.log".to_owned();
    let reason = "bad checksum".to_owned();
    let damage = Damaged { segment: 2, path, from: 3000, to: 3200, indexes: None, reason, is_missing: false };
    survey.segments[1].damage.push(damage);
    let page = page(&survey);
    // Half-way up: 3000 of 6400 bytes are 93.75 of 200.
    assert!(page.contains("class=\"bad\" x=\"99.00\" y=\"100.00\" width=\"72.00\" height=\"6.25\""), "{page}");
    assert!(page.contains("damage: p_2.log, bytes 3000 to 3200: bad checksum"));
}
