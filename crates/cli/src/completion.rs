//! What can stand where a key, a server or a topic is expected: asked of the cluster while a shell
//! completes a command line. Completion never fails and never keeps anybody waiting.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use clap_complete::env::Shells;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::help;
use crate::runtime;
use crate::session::Session;

/// How long completion may ask around.
const PATIENCE: Duration = Duration::from_millis(300);
/// The most keys that are offered.
const KEYS_MAX: u64 = 100;

/// The keys that begin with what was typed.
pub(crate) fn keys(begun: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = begun.to_str() else {
        return Vec::new();
    };
    let found = runtime::block_on(async {
        let session = Session::for_completion(PATIENCE)?;
        Ok(keys_with_prefix(&session, begun).await)
    });
    found.unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// The ids of the servers in the configuration.
pub(crate) fn servers(begun: &OsStr) -> Vec<CompletionCandidate> {
    let ids = Session::for_completion(PATIENCE).map(|session| session.server_ids());
    matching(ids.unwrap_or_default(), begun)
}

/// The commands and topics that help can explain.
pub(crate) fn topics(begun: &OsStr) -> Vec<CompletionCandidate> {
    matching(help::names().into_iter().map(str::to_owned).collect(), begun)
}

fn matching(names: Vec<String>, begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let names = names.into_iter().filter(|name| name.starts_with(&*begun));
    names.map(CompletionCandidate::new).collect()
}

/// Up to [`KEYS_MAX`] keys that begin with `begun` and can be typed. Whatever a server has applied
/// is good enough to choose from.
pub(crate) async fn keys_with_prefix(session: &Session, begun: &str) -> Vec<String> {
    let scan = session.keys_beginning_with(begun, KEYS_MAX);
    let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, scan).await else {
        return Vec::new();
    };
    let keys = found.into_iter().filter_map(|key| String::from_utf8(key.to_vec()).ok());
    keys.filter(|key| !key.chars().any(|c| c.is_control() || c.is_whitespace())).collect()
}

/// The script that teaches a shell to ask `kvctl` for completions.
pub(crate) fn script(shell: &str) -> Result<String, Failure> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| Failure::usage(format!("there is no completion for `{shell}`")))?;
    let mut script = Vec::new();
    completer
        .write_registration("COMPLETE", "kvctl", "kvctl", "kvctl", &mut script)
        .map_err(|error| Failure::new(Exit::Unexpected, format!("cannot write it: {error}")))?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}
