//! One self-contained HTML page of a journal: no server, no network, no build step.
//!
//! The journal's lines are put into the page as they are, and a script of the page draws them. Of a
//! long journal the page has every stall, and of what is many each second, third or n-th line.
//!
//! Errors: `JournalError`.
//! Source: docs/trace.md.

use std::path::Path;

use crate::recorded::{JournalError, read_journal};

/// The most that a page takes of a journal's lines: what a browser opens in a second.
pub const LINES_BYTES_MAX: usize = 16 << 20;
/// What is many, and may be thinned out.
const MANY: [&str; 4] = ["load", "slice", "call", "thread-call"];

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/page.css");
const SCRIPT: &str = include_str!("report/page.js");

/// The page of the journal at `path`.
///
/// # Errors
/// `JournalError`.
pub fn html(path: &Path) -> Result<String, JournalError> {
    let (lines, damaged) = read_journal(path)?;
    Ok(page(&lines, damaged, LINES_BYTES_MAX))
}

fn page(lines: &[String], damaged: u64, bytes_max: usize) -> String {
    let is_many = |line: &str| {
        let kind = line.strip_prefix("{\"kind\":\"");
        let kind = kind.and_then(|rest| rest.split('"').next());
        kind.is_some_and(|kind| MANY.contains(&kind))
    };
    let bytes = |many: bool| -> usize {
        let lines = lines.iter().filter(|line| is_many(line) == many);
        lines.map(|line| line.len() + 2).sum()
    };
    let room = bytes_max.saturating_sub(bytes(false)).max(bytes_max / 4);
    let step = bytes(true).div_ceil(room).max(1);
    let mut number = 0_usize;
    let kept = lines.iter().filter(|line| {
        let many = is_many(line);
        number += usize::from(many);
        !many || number.is_multiple_of(step)
    });
    let kept: Vec<&str> = kept.map(String::as_str).collect();
    // In JSON the sign is only within strings, where it could end the page's script.
    let data = format!(
        "{{\"step\":{step},\"damaged\":{damaged},\"lines\":[\n{}\n]}}",
        kept.join(",\n").replace('<', "\\u003c")
    );
    // The data comes last: what stands in it is not looked through again.
    PAGE.replace("/*STYLE*/", STYLE)
        .replace("/*SCRIPT*/", SCRIPT)
        .replace("/*DATA*/", &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(kind: &str, count: usize) -> Vec<String> {
        vec![format!("{{\"kind\":\"{kind}\",\"at\":1}}"); count]
    }

    #[test]
    fn the_page_has_every_line_and_nothing_of_its_own_elsewhere() {
        let mut all = lines("call", 3);
        all.extend(lines("stall", 1));
        let page = page(&all, 2, LINES_BYTES_MAX);
        assert_eq!(page.matches("\"kind\":\"call\"").count(), 3);
        assert!(page.contains("{\"step\":1,\"damaged\":2,"));
        for outside in [
            "src=",
            "href=\"http",
            "@import",
            "/*DATA*/",
            "/*STYLE*/",
            "/*SCRIPT*/",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn what_a_line_says_ends_no_script() {
        let line = "{\"kind\":\"call\",\"name\":\"f.<locals>.</script><!--\"}".to_owned();
        let page = page(&[line], 0, LINES_BYTES_MAX);
        assert!(page.contains("f.\\u003clocals>.\\u003c/script>\\u003c!--"));
        assert_eq!(
            page.matches("</script>").count(),
            PAGE.matches("</script>").count()
        );
    }

    #[test]
    fn of_what_is_many_every_nth_line_is_kept_and_every_stall() {
        let mut all = lines("call", 1000);
        all.extend(lines("stall", 10));
        let page = page(&all, 0, 4096);
        let calls = page.matches("\"kind\":\"call\"").count();
        assert!((100..=200).contains(&calls), "{calls}");
        assert_eq!(page.matches("\"kind\":\"stall\"").count(), 10);
        assert!(page.contains("{\"step\":7,"), "{page}");
    }
}
