//! The cases of other systems in `tests/cases`: all pass, or are skipped for a reason.

use std::path::Path;

use trackway_tests::conformance;

#[test]
fn cases_of_other_systems_pass_or_are_skipped_for_a_reason() {
    let report = conformance::run(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")]).expect("readable cases");
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.counts(None)[0] > 0, "{report}");
}
