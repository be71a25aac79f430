//! The program without a command.

use crate::process::{program, run};

#[tokio::test]
async fn the_demonstration_ends_well_and_its_sums_are_right() {
    let Some(program) = program() else { return };
    let place = tempfile::tempdir().unwrap();
    let said = run(&program, &["--demo-requests", "300", "--demo-svg", "line.svg"], &[], place.path()).await.well();
    let number = |what: &str| -> u64 {
        let line = said.lines().find(|line| line.trim_start().starts_with(what)).unwrap_or_else(|| panic!("{said}"));
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    let ended = ["sent by primary", "sent by secondary", "sent by SMS", "given up", "dead-lettered", "unknown"];
    assert_eq!((number("accepted"), ended.map(number).iter().sum::<u64>()), (300, 300), "{said}");
    assert_eq!(["unfinished", "doubles", "lost"].map(number), [0, 0, 0], "{said}");
    assert!(number("sent by primary") > 0 && number("sent by secondary") > 0, "{said}");

    let drawn = std::fs::read_to_string(place.path().join("line.svg")).unwrap();
    let kinds = ["", "-marketing", "-notification", "-transactional"];
    let servers = ["primary-smtp", "secondary-smtp"].into_iter();
    let breakers = servers.flat_map(|server| kinds.map(|kind| format!("{server}{kind}")));
    for breaker in breakers.chain(["kafka-publisher".to_owned(), "sms-gateway".to_owned()]) {
        assert!(drawn.contains(&breaker), "{breaker} is not drawn");
    }
}
