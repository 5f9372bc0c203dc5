//! `cargo xtask conformance`: what docs/conformance.md claims, checked.
//!
//! The document has a table row per clause: requirement ID, clause, proof. A requirement is proved when each of
//! its clauses names at least one proof and all proofs hold. The tests that ARCHITECTURE.md names for the invariants
//! have to exist, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build::{self, Artifacts},
    cmd::Cmd,
    project, setup,
    test_list::{self, TestCase},
};

const DOCUMENT: &str = "docs/conformance.md";
const INVARIANTS: &str = "ARCHITECTURE.md";

/// The pages of the requirements, by the letter of their IDs, and how many each has.
const PAGES: [(char, u32); 5] = [('P', 35), ('B', 17), ('M', 18), ('C', 37), ('A', 21)];

/// Where the requirements' text is, seen from the project's root, on machines that have it.
const REQUIREMENTS: &str = "../shared/spec";

/// A letter and a number, as in `P-16`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Id(char, u32);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let (letter, number) = text.split_once('-')?;
        let mut letters = letter.chars();
        let id = Self(letters.next()?, number.parse().ok()?);
        (letters.next().is_none() && id.0.is_ascii_uppercase()).then_some(id)
    }

    /// Every requirement that there is.
    fn all() -> BTreeSet<Self> {
        PAGES
            .iter()
            .flat_map(|&(letter, count)| (1..=count).map(move |number| Self(letter, number)))
            .collect()
    }
}

/// What is to show that a clause holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Proof {
    /// A test, as `crate::path::test`.
    Test(String),
    /// The arguments of a `cargo xtask` whose exit status tells.
    Xtask(Vec<String>),
}

/// A row of the table.
#[derive(Debug)]
struct Clause {
    id: Id,
    line: usize,
    /// Empty: not built.
    proofs: Vec<Proof>,
}

pub(crate) fn run() -> Result<ExitCode> {
    let read = |name| {
        let path = project::root().join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let clauses = parse(&read(DOCUMENT)?)?;
    let invariants = read(INVARIANTS)?;
    check_complete(&clauses, &Id::all())?;
    check_requirements(&project::root().join(REQUIREMENTS))?;

    use setup::Purpose::{Build, Demo, Test};
    setup::ensure(&[Build, Test, Demo])?;
    let artifacts = build::for_tests()?;
    let tests = test_list::build_and_list(&artifacts)?;
    check_named_tests(named_in_clauses(&clauses).chain(named_in_tables(&invariants)), &tests)?;

    let failed = run_proofs(&clauses, &tests, &artifacts)?;
    let proved = proved(&clauses, &failed);
    for (id, state) in &proved {
        println!("{id}: {state}");
    }
    let count = proved.values().filter(|state| **state == State::Proved).count();
    println!("proved {count} of {}", proved.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came out for a requirement: the worst of its clauses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum State {
    Failed,
    NotBuilt,
    Incomplete,
    Proved,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Failed => "FAILED",
            Self::NotBuilt => "not built",
            Self::Incomplete => "some clauses not built",
            Self::Proved => "proved",
        })
    }
}

fn proved(clauses: &[Clause], failed: &BTreeSet<Proof>) -> BTreeMap<Id, State> {
    let mut of_id: BTreeMap<Id, Vec<&Clause>> = BTreeMap::new();
    for clause in clauses {
        of_id.entry(clause.id).or_default().push(clause);
    }
    let state = |clauses: Vec<&Clause>| {
        let built = clauses.iter().filter(|clause| !clause.proofs.is_empty()).count();
        if clauses.iter().flat_map(|clause| &clause.proofs).any(|proof| failed.contains(proof)) {
            State::Failed
        } else if built == 0 {
            State::NotBuilt
        } else if built < clauses.len() {
            State::Incomplete
        } else {
            State::Proved
        }
    };
    of_id.into_iter().map(|(id, clauses)| (id, state(clauses))).collect()
}

/// Runs each proof once and gives those that failed.
fn run_proofs(clauses: &[Clause], tests: &[TestCase], artifacts: &Artifacts) -> Result<BTreeSet<Proof>> {
    let proofs: BTreeSet<&Proof> = clauses.iter().flat_map(|clause| &clause.proofs).collect();
    let mut failed = BTreeSet::new();
    for proof in proofs {
        let holds = match proof {
            Proof::Test(name) => {
                let mut named = tests.iter().filter(|test| test.name == *name).peekable();
                // A library and a program of one name may each have a test of this name.
                named.peek().is_some() && named.all(|test| test.passes(artifacts))
            }
            // As for tests, what skips a part of itself is no proof.
            Proof::Xtask(args) => {
                Cmd::new(env::current_exe()?).args(args).env("CI", "true").status()?.success()
            }
        };
        if !holds {
            failed.insert(proof.clone());
        }
    }
    Ok(failed)
}

/// A test's name and where it stands.
struct Named {
    document: &'static str,
    line: usize,
    name: String,
}

fn named_in_clauses(clauses: &[Clause]) -> impl Iterator<Item = Named> {
    let proofs =
        clauses.iter().flat_map(|clause| clause.proofs.iter().map(move |proof| (clause.line, proof)));
    proofs.filter_map(|(line, proof)| match proof {
        Proof::Test(name) => Some(Named { document: DOCUMENT, line, name: name.clone() }),
        Proof::Xtask(_) => None,
    })
}

/// The paths in the tables of ARCHITECTURE.md: only that of the invariants has any.
fn named_in_tables(text: &str) -> impl Iterator<Item = Named> {
    let rows = text.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    rows.flat_map(|(index, row)| {
        let paths = row.split('`').skip(1).step_by(2).filter(|code| code.contains("::"));
        paths.map(move |path| Named {
            document: INVARIANTS,
            line: index + 1,
            name: test_list::canonical(path),
        })
    })
}

fn check_named_tests(named: impl Iterator<Item = Named>, tests: &[TestCase]) -> Result<()> {
    let there: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    let missing: Vec<String> = named
        .filter(|test| !there.contains(test.name.as_str()))
        .map(|Named { document, line, name }| format!("  {document}:{line}: {name}"))
        .collect();
    ensure!(missing.is_empty(), "no such test (names are crate::path::test):\n{}", missing.join("\n"));
    Ok(())
}

/// Each requirement has a row, and there is no row of another.
fn check_complete(clauses: &[Clause], all: &BTreeSet<Id>) -> Result<()> {
    let listed: BTreeSet<Id> = clauses.iter().map(|clause| clause.id).collect();
    ensure!(listed == *all, "{DOCUMENT} has {}", difference(&listed, all));
    Ok(())
}

/// The text of the requirements has the IDs that this program expects, where the text is at hand.
fn check_requirements(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    let mut found = BTreeSet::new();
    for entry in entries {
        let page = fs::read_to_string(entry?.path())?;
        let heads = page.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**"));
        found.extend(heads.filter_map(|(id, _)| Id::parse(id)));
    }
    ensure!(found == Id::all(), "the requirements have {}", difference(&found, &Id::all()));
    Ok(())
}

fn difference(found: &BTreeSet<Id>, wanted: &BTreeSet<Id>) -> String {
    let list = |ids: Vec<String>| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    let missing = list(wanted.difference(found).map(Id::to_string).collect());
    let unknown = list(found.difference(wanted).map(Id::to_string).collect());
    format!("missing IDs: {missing}; unknown IDs: {unknown}")
}

/// The rows of all tables of the document whose first column is headed `ID`.
fn parse(text: &str) -> Result<Vec<Clause>> {
    let mut clauses = Vec::new();
    for (index, row) in text.lines().enumerate() {
        let line = index + 1;
        let Some(row) = row.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|')) else { continue };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let is_rule = cells.iter().all(|cell| cell.trim_matches([':', '-']).is_empty());
        if is_rule || cells.first() == Some(&"ID") {
            continue;
        }
        let [id, clause, proof] = cells[..] else {
            bail!("{DOCUMENT}:{line}: {} columns where ID, clause and proof belong", cells.len());
        };
        let id =
            Id::parse(id).with_context(|| format!("{DOCUMENT}:{line}: `{id}` is not an ID such as P-16"))?;
        ensure!(!clause.is_empty(), "{DOCUMENT}:{line}: {id} has a row without a clause");
        let proofs = parse_proofs(proof).with_context(|| format!("{DOCUMENT}:{line}"))?;
        clauses.push(Clause { id, line, proofs });
    }
    Ok(clauses)
}

fn parse_proofs(cell: &str) -> Result<Vec<Proof>> {
    if cell == "not built" {
        return Ok(Vec::new());
    }
    cell.split(',').map(|proof| parse_proof(proof.trim().trim_matches('`'))).collect()
}

fn parse_proof(proof: &str) -> Result<Proof> {
    if let Some(command) = proof.strip_prefix("cmd:") {
        let args = command.trim().strip_prefix("cargo xtask ").context("a `cmd:` is a `cargo xtask …`")?;
        ensure!(!args.starts_with("conformance"), "conformance cannot prove itself");
        return Ok(Proof::Xtask(args.split_whitespace().map(str::to_owned).collect()));
    }
    let is_path =
        proof.contains("::") && proof.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c));
    ensure!(is_path, "`{proof}` is neither `crate::path::test`, nor `cmd: cargo xtask …`, nor `not built`");
    Ok(Proof::Test(test_list::canonical(proof)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
# Conformance
| ID | clause | proof |
|---|:---|---|
| P-1 | several VIPs | `redirector-core::decide::tests::two_vips`, redirector_core::x::y |
| P-1 | management | not built |
| P-2 | lab | cmd: cargo xtask demo --quick |
";

    #[test]
    fn rows_become_clauses_with_their_proofs() {
        let clauses = parse(TABLE).unwrap();
        assert_eq!(
            clauses.iter().map(|c| (c.id, c.line)).collect::<Vec<_>>(),
            [(Id('P', 1), 4), (Id('P', 1), 5), (Id('P', 2), 6)]
        );
        assert_eq!(
            clauses[0].proofs,
            [
                Proof::Test("redirector_core::decide::tests::two_vips".into()),
                Proof::Test("redirector_core::x::y".into())
            ]
        );
        assert!(clauses[1].proofs.is_empty());
        assert_eq!(clauses[2].proofs, [Proof::Xtask(vec!["demo".into(), "--quick".into()])]);
    }

    #[test]
    fn a_malformed_row_is_named_by_its_line() {
        for (row, why) in [
            ("| P1 | clause | not built |", "not an ID"),
            ("| P-1 | not built |", "2 columns"),
            ("| P-1 | | not built |", "without a clause"),
            ("| P-1 | clause | soon |", "neither"),
            ("| P-1 | clause | cmd: rm -r / |", "cargo xtask"),
            ("| P-1 | clause | a::b, |", "neither"),
        ] {
            let error = format!("{:#}", parse(&format!("\n{row}\n")).unwrap_err());
            assert!(error.contains(":2:") || error.ends_with(":2"), "{row}: {error}");
            assert!(error.contains(why), "{row}: {error}");
        }
    }

    #[test]
    fn an_id_without_a_row_is_an_error() {
        let all = BTreeSet::from([Id('P', 1), Id('P', 2), Id('P', 3)]);
        let error = check_complete(&parse(TABLE).unwrap(), &all).unwrap_err().to_string();
        assert!(error.contains("missing IDs: P-3") && error.contains("unknown IDs: none"), "{error}");
    }

    #[test]
    fn an_id_is_proved_only_when_every_clause_is() {
        let clauses = parse(TABLE).unwrap();
        let none = BTreeSet::new();
        assert_eq!(proved(&clauses, &none)[&Id('P', 1)], State::Incomplete);
        assert_eq!(proved(&clauses, &none)[&Id('P', 2)], State::Proved);
        let failed = BTreeSet::from([Proof::Xtask(vec!["demo".into(), "--quick".into()])]);
        assert_eq!(proved(&clauses, &failed)[&Id('P', 2)], State::Failed);
        assert_eq!(proved(&clauses[1..2], &none)[&Id('P', 1)], State::NotBuilt);
    }

    #[test]
    fn a_named_test_that_does_not_exist_is_an_error() {
        let clauses = parse(TABLE).unwrap();
        let error = check_named_tests(named_in_clauses(&clauses), &[]).unwrap_err().to_string();
        assert!(error.contains("conformance.md:4: redirector_core::decide::tests::two_vips"), "{error}");
    }

    #[test]
    fn tests_named_for_invariants_are_those_in_tables() {
        let text =
            "Calls `shares::records`.\n\n| 1 | `compile` refuses | `redirector-plan::x::y` and `a::b` |\n";
        let named: Vec<(usize, String)> =
            named_in_tables(text).map(|named| (named.line, named.name)).collect();
        assert_eq!(named, [(3, "redirector_plan::x::y".to_owned()), (3, "a::b".to_owned())]);
    }

    #[test]
    fn there_are_128_requirements() {
        assert_eq!(Id::all().len(), 128);
    }

    #[test]
    fn the_document_lists_every_requirement() {
        let text = fs::read_to_string(project::root().join(DOCUMENT)).unwrap();
        check_complete(&parse(&text).unwrap(), &Id::all()).unwrap();
    }
}
