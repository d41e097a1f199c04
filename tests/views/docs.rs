//! `docs/tables.md` and `docs/tables.svg` are what the tables themselves say.
//!
//! `UPDATE_EXPECTED=1` writes them anew; look at what changed before it is kept.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use healthex_sync::plan::table_set::TableSet;
use healthex_sync::views::{JOINS, TableFacts, analyst_tables, describe};

fn facts() -> Vec<TableFacts> {
    describe(&analyst_tables(&TableSet::ALL.map(|(_, set)| set), None).tables)
}

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == text,
        "docs/{name} is not what the tables say: UPDATE_EXPECTED=1"
    );
}

#[test]
fn the_page_and_the_picture_say_what_the_tables_are() {
    let facts = facts();
    check("tables.md", &page(&facts));
    check("tables.svg", &picture(&facts));
}

#[test]
fn each_column_is_described_and_each_reference_leads_somewhere() {
    let facts = facts();
    for table in &facts {
        assert_ne!(table.description, "", "{}", table.name);
        for column in &table.columns {
            assert_ne!(column.description, "", "{}.{}", table.name, column.name);
        }
    }
    for join in JOINS {
        let target = facts.iter().find(|table| table.name == join.to).unwrap();
        assert!(target.columns.iter().any(|column| column.name == "id"), "{} has no id", join.to);
        let has_it = |table: &TableFacts| table.columns.iter().any(|column| column.name == join.column);
        assert!(facts.iter().any(has_it), "no table has {}", join.column);
    }
}

fn page(facts: &[TableFacts]) -> String {
    let mut page = "# The analysts' tables\n\nMade from the tables' own definitions; `views describe [TABLE]` prints the same, and the table \
         `analyst_column` holds it.\n\nJoin on `person_id` **and** the `id` that a column names: each table has an index for it. Where \
         `id` repeats for one person, `key` does not.\n\n![How the tables join](tables.svg)\n"
        .to_owned();
    let sets = TableSet::ALL.map(|(name, set)| (format!("Set `{name}`"), Some(set)));
    for (title, set) in sets.into_iter().chain([("Always".to_owned(), None)]) {
        let _ = write!(page, "\n## {title}\n");
        for table in facts.iter().filter(|table| table.set == set) {
            let TableFacts { name, description, columns, .. } = table;
            let _ = write!(page, "\n### `{name}`\n\n{description}\n\n");
            if is_part(table) {
                page.push_str("The columns are those of `observations`.\n");
                continue;
            }
            page.push_str("| column | type | | from |\n|---|---|---|---|\n");
            for column in columns {
                let path = if column.path.is_empty() {
                    String::new()
                } else {
                    format!("`{}`", escaped(&column.path))
                };
                let _ = writeln!(
                    page,
                    "| `{}` | {} | {} | {path} |",
                    column.name,
                    column.kind,
                    escaped(&column.description)
                );
            }
        }
    }
    page
}

fn is_part(table: &TableFacts) -> bool {
    ["lab_results", "vital_signs"].contains(&table.name.as_str())
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

const ROW: usize = 15;
const BOX_WIDTH: usize = 230;
const TARGET_LEFT: usize = 660;

/// A box for each table that refers to others, and a line from each of its columns to what it names.
fn picture(facts: &[TableFacts]) -> String {
    let targets: Vec<&str> = {
        let mut names: Vec<&str> = JOINS.iter().map(|join| join.to).collect();
        names.dedup();
        names
    };
    let referring: Vec<(&TableFacts, Vec<(&str, usize)>)> = facts
        .iter()
        .filter(|table| !is_part(table))
        .map(|table| {
            let joins = table.columns.iter().filter_map(|column| {
                let join = JOINS.iter().find(|join| join.column == column.name)?;
                Some((column.name.as_str(), targets.iter().position(|name| *name == join.to)?))
            });
            (table, joins.collect::<Vec<_>>())
        })
        .filter(|(_, joins)| !joins.is_empty())
        .collect();
    let height = referring.iter().map(|(_, joins)| (joins.len() + 2) * ROW).sum::<usize>() + 60;
    let target_y = |target: usize| 60 + (height - 80) * (2 * target + 1) / (2 * targets.len());
    let colour = |target: usize| format!("hsl({},65%,38%)", target * 360 / targets.len());
    let (mut lines, mut boxes) = (String::new(), String::new());
    let mut y = 50;
    for (table, joins) in &referring {
        let bottom = (joins.len() + 1) * ROW + 4;
        let _ = writeln!(
            boxes,
            r##"<rect x="20" y="{y}" width="{BOX_WIDTH}" height="{bottom}" rx="4" fill="#fff" stroke="#888"/>"##
        );
        let _ = writeln!(boxes, r#"<text x="28" y="{}" font-weight="bold">{}</text>"#, y + 13, table.name);
        for (row, (column, target)) in (1..).zip(joins) {
            let at = y + row * ROW;
            let _ =
                writeln!(boxes, r#"<text x="36" y="{}" fill="{}">{column}</text>"#, at + 13, colour(*target));
            let (from, to) = (20 + BOX_WIDTH, target_y(*target));
            let _ = writeln!(
                lines,
                r#"<path d="M{from} {} C{} {} {} {to} {TARGET_LEFT} {to}" stroke="{}"/>"#,
                at + 9,
                from + 180,
                at + 9,
                TARGET_LEFT - 180,
                colour(*target)
            );
        }
        y += (joins.len() + 2) * ROW;
    }
    for (target, name) in targets.iter().enumerate() {
        let y = target_y(target);
        let _ = writeln!(
            boxes,
            r##"<rect x="{TARGET_LEFT}" y="{}" width="{BOX_WIDTH}" height="22" rx="4" fill="#fff" stroke="{}" stroke-width="2"/>"##,
            y - 11,
            colour(target)
        );
        let _ = writeln!(
            boxes,
            r#"<text x="{}" y="{}" font-weight="bold">{name}.id</text>"#,
            TARGET_LEFT + 10,
            y + 4
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>How the analysts' tables join</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"14\">Every join is on person_id as well: a.person_id = b.person_id AND \
         a.encounter_id = b.id</text>\n<g fill=\"none\" stroke-opacity=\"0.55\">\n{lines}</g>\n{boxes}</svg>\n",
        width = TARGET_LEFT + BOX_WIDTH + 20
    )
}
