//! Rosters: a file of rows, each of which is a task, or the values of one more run of a workflow.
//!
//! Its one surprise: a plain text file is a roster too, one name a line with `#` for remarks, as older tools wrote them.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Trouble, read_file};
use crate::{
    model::text,
    orchestrator::workflow::{Row, Values, Workflow},
};

/// One row: its columns, or the fields of its object.
pub(super) type Fields = Map<String, Value>;

/// What the rows of a roster are.
pub(super) enum Rows {
    /// Each is a task.
    Tasks(Vec<Fields>),
    /// Each is one more run of a workflow.
    Workflows(Vec<Row>),
}

/// Reads a roster by the ending of its name.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Fields>> {
    let text = read_file(path)?;
    let text = text.trim_start_matches('\u{feff}');
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let rows = match &*ending {
        "csv" => table(text, b','),
        "tsv" => table(text, b'\t'),
        "jsonl" | "ndjson" => lines(text),
        "json" => array(text),
        _ => Ok(names(text)),
    };
    let rows = rows.map_err(|why| Trouble::Wrong(format!("{}: {why}", path.display())))?;
    if rows.is_empty() {
        return Err(Trouble::Wrong(format!("{} has no row", path.display())).into());
    }
    Ok(rows)
}

fn table(text: &str, delimiter: u8) -> Result<Vec<Fields>, String> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(text.as_bytes());
    let head = reader.headers().map_err(|error| error.to_string())?.clone();
    if let Some(at) = head.iter().position(str::is_empty) {
        return Err(format!("column {} has no name in the first line", at + 1));
    }
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| error.to_string())?;
        let cells = head.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        Ok(cells.map(|(name, cell)| (name.to_owned(), Value::from(text::scrub(cell).into_owned()))).collect())
    };
    reader.records().map(row).collect()
}

fn lines(text: &str) -> Result<Vec<Fields>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(format!("line {} is no JSON object", n + 1)),
            Err(error) => Err(format!("line {} is no JSON: {error}", n + 1)),
        })
        .collect()
}

fn array(text: &str) -> Result<Vec<Fields>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Array(rows)) => rows
            .into_iter()
            .enumerate()
            .map(|(n, row)| match row {
                Value::Object(fields) => Ok(fields),
                _ => Err(format!("row {} is no JSON object", n + 1)),
            })
            .collect(),
        Ok(_) => Err("should be a list of objects".to_owned()),
        Err(error) => Err(format!("this is no JSON: {error}")),
    }
}

fn names(text: &str) -> Vec<Fields> {
    let names = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let names = names.filter(|name| !name.is_empty());
    names.map(|name| Fields::from_iter([("name".to_owned(), text::scrub(name).into_owned().into())])).collect()
}

/// What the rows are: runs of `base`, or of the workflow that each names, or else tasks.
pub(super) fn rows(
    rows: Vec<Fields>,
    base: Option<&Workflow>,
    mut open: impl FnMut(&Path) -> anyhow::Result<Workflow>,
) -> anyhow::Result<Rows> {
    let named = rows.iter().filter(|row| row.contains_key("workflow")).count();
    if base.is_none() && named == 0 {
        return Ok(Rows::Tasks(tasks(rows)));
    }
    let mut runs = Vec::new();
    for (n, mut row) in rows.into_iter().enumerate() {
        let workflow = match (row.remove("workflow"), base) {
            (Some(Value::String(path)), _) => open(Path::new(&path))?,
            (Some(_), _) => return Err(Trouble::Wrong(format!("row {}: workflow is no text", n + 1)).into()),
            (None, Some(base)) => base.clone(),
            (None, None) => {
                return Err(Trouble::Wrong(format!("row {} names no workflow, and others do", n + 1)).into());
            }
        };
        let values: Values = row.iter().map(|(name, value)| (name.clone(), Workflow::said(value))).collect();
        runs.push(Row { workflow, values });
    }
    Ok(Rows::Workflows(runs))
}

/// Rows as tasks: what is no field of a task is a parameter of it.
fn tasks(rows: Vec<Fields>) -> Vec<Fields> {
    rows.into_iter()
        .enumerate()
        .map(|(n, row)| {
            let (mut task, mut params) = (Fields::new(), Fields::new());
            for (name, value) in row {
                if name == "params"
                    && let Value::Object(own) = value
                {
                    params.extend(own);
                } else if Workflow::is_task_field(&name) {
                    task.insert(name, value);
                } else {
                    params.insert(name, value);
                }
            }
            task.entry("id").or_insert_with(|| format!("row{}", n + 1).into());
            task.insert("params".to_owned(), Value::Object(params));
            task
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(name: &str, text: &str) -> anyhow::Result<Vec<Fields>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn every_kind_of_roster_gives_the_same_rows() {
        let want = vec![json!({"name": "mira-sol", "age": "9"}), json!({"name": "tom, jr", "age": "11"})];
        for (name, text) in [
            ("a.csv", "\u{feff}name,age\nmira-sol, 9\n\"tom, jr\",11\n"),
            ("a.tsv", "name\tage\nmira-sol\t9\ntom, jr\t11\n"),
            ("a.jsonl", "{\"name\":\"mira-sol\",\"age\":\"9\"}\n\n{\"name\":\"tom, jr\",\"age\":\"11\"}\n"),
            ("a.json", "[{\"name\":\"mira-sol\",\"age\":\"9\"},{\"name\":\"tom, jr\",\"age\":\"11\"}]"),
        ] {
            let rows: Vec<Value> = file(name, text).unwrap().into_iter().map(Value::Object).collect();
            assert_eq!(rows, want, "{name}");
        }
        let names = file("roster.txt", "# juniors\nmira-sol\ntom-jr # new\n\n").unwrap();
        assert_eq!(names.iter().map(|row| &row["name"]).collect::<Vec<_>>(), ["mira-sol", "tom-jr"]);
    }

    #[test]
    fn what_is_wrong_with_a_roster_is_said_with_its_line() {
        for (name, text, want) in [
            ("a.csv", "name,age\nmira\n", "line: 2"),
            ("a.csv", "name,\nmira,9\n", "column 2 has no name"),
            ("a.csv", "name,age\n", "has no row"),
            ("a.jsonl", "{}\n[1]\n", "line 2 is no JSON object"),
            ("a.jsonl", "{}\n{\n", "line 2 is no JSON:"),
            ("a.json", "{}", "a list of objects"),
            ("a.txt", "# nobody\n", "has no row"),
        ] {
            let error = file(name, text).unwrap_err().to_string();
            assert!(error.contains(want), "{name}: {error}");
        }
    }

    #[test]
    fn columns_that_are_no_field_of_a_task_are_its_parameters() {
        let row = json!({"agent": "marie", "action": "evaluate", "child": "mira"});
        let Rows::Tasks(tasks) = rows(vec![row.as_object().unwrap().clone()], None, |_| unreachable!()).unwrap() else {
            panic!("a task")
        };
        let want = json!({"agent": "marie", "action": "evaluate", "id": "row1", "params": {"child": "mira"}});
        assert_eq!(Value::Object(tasks[0].clone()), want);
    }
}
