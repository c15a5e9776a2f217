//! What a command works with: the client, where the servers are, and how to print. A command line
//! has one session; a shell keeps its own for all of its lines.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use kvstore::client::{Client, ClientOptions, Endpoint, Redirect};
use kvstore::config::{Config, Source};
use kvstore::store::Revision;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Answer, Format};

/// Where a server is, and its id where that is known.
pub(crate) type ServerAddress = Endpoint;

/// How much is said beside the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loudness {
    /// Data and errors.
    Quiet,
    /// Confirmations and notes as well.
    Normal,
    /// Revisions and times as well.
    Verbose,
}

/// Whether standard input is there for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// A command may read it.
    Free,
    /// A shell reads its lines from it.
    Taken,
}

/// What is asked before something is deleted that was not named key by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caution {
    /// On a terminal the user is asked.
    Ask,
    /// `--yes` was given.
    Trust,
}

/// Between two looks at something that cannot announce itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a command works with.
#[derive(Clone)]
pub(crate) struct Session {
    client: Client,
    servers: Vec<ServerAddress>,
    cluster: Option<String>,
    timeout: Duration,
    format: Format,
    loudness: Loudness,
    caution: Caution,
    stdin: Stdin,
}

impl Session {
    /// The session that the global options describe.
    pub(crate) fn new(global: &Global) -> Result<Session, Failure> {
        let (servers, cluster) = servers(global)?;
        let redirect = if global.no_redirect { Redirect::Never } else { Redirect::Follow };
        if global.no_redirect && servers.len() != 1 {
            return Err(Failure::usage("--no-redirect is about one server, so it needs one")
                .detail("name it: kvctl -e HOST:PORT --no-redirect ..."));
        }
        let loudness = match (global.quiet, global.verbose) {
            (true, _) => Loudness::Quiet,
            (_, true) => Loudness::Verbose,
            _ => Loudness::Normal,
        };
        let client = connect(&servers, cluster.clone(), global.timeout, redirect)?;
        Ok(Session {
            client,
            servers,
            cluster,
            timeout: global.timeout,
            format: global.output,
            loudness,
            caution: if global.yes { Caution::Trust } else { Caution::Ask },
            stdin: Stdin::Free,
        })
    }

    /// A session with these servers of one cluster, otherwise as the global options describe it.
    pub(crate) fn with_servers(
        global: &Global,
        servers: Vec<ServerAddress>,
    ) -> Result<Session, Failure> {
        let addresses = servers.iter().map(|server| server.address.clone()).collect();
        let session = Session::new(&Global { endpoints: addresses, ..global.clone() })?;
        let client = connect(&servers, None, session.timeout, Redirect::Follow)?;
        Ok(Session { client, servers, ..session })
    }

    /// A session for completing a command line: what the environment and the configuration say.
    pub(crate) fn for_completion(patience: Duration) -> Result<Session, Failure> {
        let endpoints = std::env::var("KVCTL_ENDPOINTS").unwrap_or_default();
        let endpoints = endpoints.split(',').filter(|text| !text.is_empty()).map(str::to_owned);
        Session::new(&Global {
            endpoints: endpoints.collect(),
            config: std::env::var_os("KVCTL_CONFIG").map(Into::into),
            output: Format::Text,
            timeout: patience,
            no_redirect: false,
            quiet: true,
            verbose: false,
            yes: false,
        })
    }

    /// The same session for the lines of a shell, which reads them from standard input.
    pub(crate) fn for_shell(mut self) -> Session {
        self.stdin = Stdin::Taken;
        self
    }

    /// The same session with another format.
    pub(crate) fn printing(mut self, format: Format) -> Session {
        self.format = format;
        self
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Another client of these servers, with connections of its own.
    pub(crate) fn another_client(
        &self,
        servers: &[ServerAddress],
        redirect: Redirect,
    ) -> Result<Client, Failure> {
        connect(servers, self.cluster.clone(), self.timeout, redirect)
    }

    /// The servers that were given or configured.
    pub(crate) fn servers(&self) -> &[ServerAddress] {
        &self.servers
    }

    /// The ids of the servers, as far as they are known without asking.
    pub(crate) fn server_ids(&self) -> Vec<String> {
        self.servers.iter().filter_map(|server| server.id.clone()).collect()
    }

    /// How long a command may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Looks again and again until there is something, for as long as a command may take.
    pub(crate) async fn until<T>(&self, look: impl AsyncFn() -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return Some(found);
            }
            if begun.elapsed() > self.timeout {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether nobody wants to be asked before something that cannot be undone.
    pub(crate) fn trusts(&self) -> bool {
        self.caution == Caution::Trust
    }

    /// How answers are printed.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether standard input is there for values.
    pub(crate) fn stdin(&self) -> Stdin {
        self.stdin
    }
}

/// Printing and asking.
impl Session {
    /// Prints an answer on stdout.
    pub(crate) fn answer(&self, answer: &dyn Answer) -> Result<(), Failure> {
        Ok(output::print(answer, self.format, &mut io::stdout().lock())?)
    }

    /// Prints a text on stdout as it is.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Prints what a write did, unless nobody wants to hear it. A format other than text was asked
    /// for by somebody who does.
    pub(crate) fn confirm(&self, done: &dyn Answer) -> Result<(), Failure> {
        if self.loudness == Loudness::Quiet && self.format == Format::Text {
            return Ok(());
        }
        self.answer(done)
    }

    /// Says something beside the data, on stderr.
    pub(crate) fn note(&self, text: &str) {
        if self.loudness != Loudness::Quiet {
            // There is nobody to tell if stderr is gone.
            let _ = writeln!(anstream::stderr(), "kvctl: {text}");
        }
    }

    /// Says at which revision an answer holds and how long it took.
    pub(crate) fn trace(&self, revision: Revision, since: Instant) {
        if self.loudness == Loudness::Verbose {
            let took_ms = since.elapsed().as_secs_f64() * 1000.0;
            self.note(&format!("revision {revision}, {took_ms:.1} ms"));
        }
    }

    /// Whether nobody has said, or can be asked, that all keys are to be deleted: in a script an
    /// empty prefix is more often a variable that was not set.
    pub(crate) fn may_not_delete_all(&self) -> bool {
        self.caution == Caution::Ask && !self.asks_before_deleting()
    }

    /// Whether the user is to be asked before many keys are deleted.
    pub(crate) fn asks_before_deleting(&self) -> bool {
        self.caution == Caution::Ask && can_ask()
    }

    /// Asks a question that must be answered with yes for something to be deleted.
    pub(crate) fn ask(&self, question: &str) -> Result<(), Failure> {
        ask(question, "nothing was deleted")
    }
}

/// Whether there is somebody who can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question that must be answered with yes for the command to go on; otherwise it ends with
/// what has not happened.
pub(crate) fn ask(question: &str, otherwise: &str) -> Result<(), Failure> {
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Interrupted, format!("not confirmed; {otherwise}"))),
    }
}

/// The servers to talk to, and the name of their cluster as far as it is known.
fn servers(global: &Global) -> Result<(Vec<ServerAddress>, Option<String>), Failure> {
    if !global.endpoints.is_empty() {
        let endpoints = global.endpoints.iter();
        let servers = endpoints.map(|address| Endpoint { id: None, address: address.clone() });
        return Ok((servers.collect(), None));
    }
    let config = Config::discover(global.config.as_deref())
        .map_err(|error| Failure::from_text(Exit::Usage, &error.to_string()))?;
    // Without a configuration the address is a guess, and so is the cluster behind it.
    let cluster = (config.source != Source::Default).then_some(config.cluster);
    let servers = config.servers.into_iter();
    let servers = servers.map(|server| match &config.source {
        Source::File(_) => Endpoint { id: Some(server.id), address: server.address },
        Source::Default => Endpoint { id: None, address: server.address },
    });
    Ok((servers.collect(), cluster))
}

fn connect(
    servers: &[ServerAddress],
    cluster: Option<String>,
    timeout: Duration,
    redirect: Redirect,
) -> Result<Client, Failure> {
    let options = ClientOptions { endpoints: servers.to_vec(), cluster, timeout, redirect };
    Client::new(options).map_err(Failure::from)
}
