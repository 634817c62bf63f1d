//! From rule files to rules that are ready to decide.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rules::Version;
use rules::load::{ExtraOutput, LoadResult, Loader, RuleSet};
use rules::program::{Matching, Program, Selection};

/// The largest file that is read, in bytes.
const MOST_FILE_BYTES: u64 = 64 << 20;

/// Versions of upstream's plugins whose fields and sources are built in.
const PLUGINS: &[(&str, &str)] = &[
    ("container", "0.7.1"),
    ("json", "0.7.4"),
    ("k8saudit", "0.17.0"),
];

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        &[$((
            concat!("rules/", $name, ".yaml"),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/", $name, ".yaml")),
        )),+]
    };
}

/// Our own rules, as they are in `rules/`: their names and what is in them, in the order of loading.
pub const BUILT_IN: &[(&str, &str)] = built_in![
    "00-lists-and-macros",
    "10-initial-access",
    "20-execution",
    "30-persistence",
    "35-privilege-escalation",
    "40-defense-evasion",
    "50-credential-access",
    "60-discovery",
    "65-lateral-movement",
    "70-collection-exfiltration",
    "80-command-and-control",
    "90-impact",
    "95-container",
    "96-knarr",
    "k8s-audit",
];

/// What stands for [`BUILT_IN`] among files.
pub const BUILT_IN_NAME: &str = "built-in";

/// Which rules are loaded, and how they are taken.
#[derive(Clone, Debug, Default)]
pub struct RuleOptions {
    /// Files, and folders whose files are taken in the order of their names; [`BUILT_IN_NAME`], or none
    /// at all, stands for the rules that are built in.
    pub files: Vec<PathBuf>,
    /// What is enabled, beyond what rules say of themselves.
    pub selection: Selection,
    /// How many rules an event may match.
    pub matching: Matching,
    /// What is added to what rules say.
    pub extra_output: Vec<ExtraOutput>,
}

/// Rules, ready to decide.
#[derive(Debug)]
pub struct Loaded {
    /// What the files say.
    pub set: RuleSet,
    /// The rules that are enabled.
    pub program: Program,
    /// How many rules an event may match.
    pub matching: Matching,
    /// What came of each file.
    pub results: Vec<LoadResult>,
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum LoadRulesError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be used.
    #[error("{}", .0.iter().filter(|result| !result.successful()).map(LoadResult::verbose).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<LoadResult>),
    /// Rules need something that is not there.
    #[error("{0}")]
    Plugins(String),
}

/// The rule files that paths stand for: themselves, and what is in folders, in the order of names.
///
/// # Errors
/// When a path cannot be looked at.
pub fn find_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LoadRulesError> {
    let mut files = Vec::new();
    for path in paths {
        let fail = |source| LoadRulesError::Unreadable {
            path: path.clone(),
            source,
        };
        if !std::fs::metadata(path).map_err(fail)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let entry = entry.map_err(fail)?.path();
            let is_yaml = entry
                .extension()
                .is_some_and(|end| end == "yaml" || end == "yml");
            if is_yaml && entry.is_file() {
                inside.push(entry);
            }
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// Reads a rule file.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_FILE_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(bytes).map_err(|_| std::io::ErrorKind::InvalidData.into())
}

/// Names of files and what is in them.
fn contents(files: &[PathBuf]) -> Result<Vec<(String, Cow<'static, str>)>, LoadRulesError> {
    let own = || {
        BUILT_IN
            .iter()
            .map(|&(name, text)| (name.to_owned(), Cow::Borrowed(text)))
    };
    if files.is_empty() {
        return Ok(own().collect());
    }
    let mut contents = Vec::new();
    for path in files {
        if path.as_os_str() == BUILT_IN_NAME {
            contents.extend(own());
            continue;
        }
        for file in find_files(std::slice::from_ref(path))? {
            let name = file.to_string_lossy().into_owned();
            let content =
                read(&file).map_err(|source| LoadRulesError::Unreadable { path: file, source })?;
            contents.push((name, Cow::Owned(content)));
        }
    }
    Ok(contents)
}

/// Loads rules.
///
/// # Errors
/// When a file cannot be read or used, or needs what is not there.
pub fn load_rules(options: &RuleOptions) -> Result<Loaded, LoadRulesError> {
    let mut loader = Loader::with_extra_output(options.extra_output.clone());
    let mut results = Vec::new();
    for (name, content) in contents(&options.files)? {
        let result = loader.load(&name, &content);
        let usable = result.successful();
        results.push(result);
        if !usable {
            return Err(LoadRulesError::Invalid(results));
        }
    }
    let plugins: Vec<_> = PLUGINS
        .iter()
        .filter_map(|(name, version)| Some((*name, Version::parse(version)?)))
        .collect();
    loader
        .check_plugins(&plugins)
        .map_err(LoadRulesError::Plugins)?;
    let set = loader.finish();
    let program = Program::new(&set, &options.selection);
    Ok(Loaded {
        set,
        program,
        matching: options.matching,
        results,
    })
}
