//! All that is shown: tables and JSON on stdout, progress and errors on stderr. Commands decide what, these how.

mod caret;
pub mod error;
pub mod json;
pub mod run_progress;
pub mod spinner;
pub mod table;

use std::io::Write;

use clap::ValueEnum;

use crate::error::Error;
use crate::escape;
use crate::inherited;
use crate::object::Object;

/// How a listing is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; columns may change.
    #[default]
    Table,
    /// For programs; fields are added, never renamed.
    Json,
}

/// Options of every listing.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Listing {
    /// table or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    pub format: Format,
    /// Only ids, one a line
    #[arg(short, long)]
    pub quiet: bool,
}

/// A listing that is shown page by page, since it may be of any length.
#[derive(Debug)]
pub struct Pages {
    listing: Listing,
    /// Objects that were shown.
    count: usize,
    is_read: bool,
}

impl Pages {
    /// Shows more of it; false when its reader has gone.
    pub fn show<T: Object>(&mut self, objects: &[T]) -> Result<bool, Error> {
        let text = self.next(objects);
        self.is_read = write(text.as_bytes())?;
        Ok(self.is_read)
    }

    /// That was all.
    pub fn end<T: Object>(self) -> Result<(), Error> {
        match self.is_read {
            true => print(&self.last::<T>()),
            false => Ok(()),
        }
    }

    fn next<T: Object>(&mut self, objects: &[T]) -> String {
        let is_first = self.count == 0;
        self.count += objects.len();
        if objects.is_empty() {
            return String::new();
        }
        if self.listing.quiet {
            return self.listing.render(objects);
        }
        match self.listing.format {
            Format::Json => {
                format!("{}{}", if is_first { "[" } else { "," }, json::elements(objects))
            }
            Format::Table => {
                let table = self.listing.render(objects);
                match is_first {
                    true => table,
                    // Its titles stand above already.
                    false => table.split_once('\n').map_or("", |(_, rows)| rows).to_owned(),
                }
            }
        }
    }

    fn last<T: Object>(&self) -> String {
        match (self.count, self.listing.format) {
            (0, _) => self.listing.render::<T>(&[]),
            (_, Format::Json) if !self.listing.quiet => "\n]\n".into(),
            _ => String::new(),
        }
    }
}

impl Listing {
    /// The same for a list that comes in pages.
    pub fn pages(self) -> Pages {
        Pages {
            listing: self,
            count: 0,
            is_read: true,
        }
    }

    /// Shows a list.
    pub fn show<T: Object>(&self, objects: &[T]) -> Result<(), Error> {
        print(&self.render(objects))
    }

    /// Shows objects of two kinds: in one array, or a table each.
    pub fn show_both<A: Object, B: Object>(&self, some: &[A], others: &[B]) -> Result<(), Error> {
        print(&self.render_both(some, others))
    }

    fn render_both<A: Object, B: Object>(&self, some: &[A], others: &[B]) -> String {
        #[derive(serde::Serialize)]
        #[serde(untagged)]
        enum Either<'o, A, B> {
            One(&'o A),
            Other(&'o B),
        }
        if self.format == Format::Json && !self.quiet {
            let some = some.iter().map(Either::One);
            let all: Vec<Either<'_, A, B>> = some.chain(others.iter().map(Either::Other)).collect();
            return json::render(&all);
        }
        match (some, others) {
            ([], others) => self.render(others),
            (some, []) => self.render(some),
            (some, others) if self.quiet => self.render(some) + &self.render(others),
            (some, others) => format!("{}\n{}", self.render(some), self.render(others)),
        }
    }

    fn render<T: Object>(&self, objects: &[T]) -> String {
        if self.quiet {
            return objects.iter().map(|object| object.id() + "\n").collect();
        }
        match self.format {
            Format::Json => json::render(&objects),
            Format::Table => table::render(T::TITLES, objects.iter().map(Object::row)),
        }
    }
}

/// Writes what is not as it should be to stderr, a line each; where nobody reads that, nothing is lost.
pub fn warn(lines: &[String]) {
    for line in lines {
        let _ = writeln!(std::io::stderr(), "warning: {}", escape::line(line));
    }
}

/// Writes text to stdout, what is not to be shown written out. A reader that has gone is no mistake of anybody's.
pub fn print(text: &str) -> Result<(), Error> {
    write(escape::lines(text).as_bytes()).map(drop)
}

/// Writes bytes to stdout as they are; false when its reader has gone.
pub fn write(bytes: &[u8]) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    let is_open = inherited::is_open_for(libc::STDOUT_FILENO, libc::O_WRONLY);
    let written = if !is_open && !bytes.is_empty() {
        Err(std::io::Error::from_raw_os_error(libc::EBADF))
    } else {
        out.write_all(bytes).and_then(|()| out.flush())
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Local(format!(
            "cannot write to standard output: {}",
            crate::error::plain(&error)
        ))),
    }
}

#[cfg(test)]
mod tests;
