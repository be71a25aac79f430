//! Statements about many rows at once.
//!
//! The rows of a statement are bound, value by value: both engines take longer to read them from one JSON array. A
//! statement's text goes with the number of its rows, and each text is prepared once, so there are only a few numbers:
//! what is missing to the next is made up by rows without an id, which no statement takes for one.

use std::sync::OnceLock;

use sqlx::{
    AnyConnection, Arguments,
    any::{AnyArguments, AnyRow},
    error::BoxDynError,
};

use super::database::Engine;

/// How many rows a text may have.
const SIZES: [usize; 5] = [1, 4, 16, 64, 256];
/// The most rows of one statement.
const MOST: usize = SIZES[SIZES.len() - 1];

/// What a column holds. PostgreSQL wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Number,
}

/// A row as a statement sees it.
pub(super) trait Bound {
    /// The columns' names. The first is the id.
    const COLUMNS: &'static [(&'static str, Type)];

    /// Adds the value of each column.
    fn bind(&self, to: &mut AnyArguments) -> Result<(), BoxDynError>;
}

/// A statement that finds its rows in a table `c`, and the time, once, where it says `NOW`.
#[derive(Debug)]
pub(super) struct Many {
    body: &'static str,
    /// By engine, then by size.
    texts: [[OnceLock<String>; SIZES.len()]; 2],
}

impl Many {
    pub(super) const fn new(body: &'static str) -> Self {
        Self { body, texts: [const { [const { OnceLock::new() }; SIZES.len()] }; 2] }
    }

    /// Writes the rows, and says how many were written.
    pub(super) async fn execute<'a, T: Bound + 'a>(
        &'static self,
        connection: &mut AnyConnection,
        engine: Engine,
        now: i64,
        rows: impl ExactSizeIterator<Item = &'a T>,
    ) -> Result<u64, sqlx::Error> {
        let mut written = 0;
        for (text, arguments) in self.portions(engine, now, rows)? {
            written += sqlx::query_with(text, arguments).execute(&mut *connection).await?.rows_affected();
        }
        Ok(written)
    }

    /// Writes the rows, and returns what the statement returns.
    pub(super) async fn fetch<'a, T: Bound + 'a>(
        &'static self,
        connection: &mut AnyConnection,
        engine: Engine,
        now: i64,
        rows: impl ExactSizeIterator<Item = &'a T>,
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let mut fetched = Vec::with_capacity(rows.len());
        for (text, arguments) in self.portions(engine, now, rows)? {
            fetched.extend(sqlx::query_with(text, arguments).fetch_all(&mut *connection).await?);
        }
        Ok(fetched)
    }

    /// The text and the arguments of each statement that is needed.
    fn portions<'a, T: Bound + 'a>(
        &'static self,
        engine: Engine,
        now: i64,
        mut rows: impl ExactSizeIterator<Item = &'a T>,
    ) -> Result<Vec<(&'static str, AnyArguments)>, sqlx::Error> {
        let mut portions = Vec::new();
        while rows.len() > 0 {
            let number = rows.len().min(MOST);
            let place = SIZES.iter().position(|size| *size >= number).unwrap_or(SIZES.len() - 1);
            let size = SIZES[place];
            let mut arguments = AnyArguments::default();
            arguments.reserve(1 + size * T::COLUMNS.len(), 0);
            let bound = (|| {
                rows.by_ref().take(number).try_for_each(|row| row.bind(&mut arguments))?;
                (number..size).flat_map(|_| T::COLUMNS).try_for_each(|(_, kind)| match kind {
                    Type::Text => arguments.add(None::<String>),
                    Type::Number => arguments.add(None::<i64>),
                })?;
                arguments.add(now)
            })();
            bound.map_err(sqlx::Error::Encode)?;
            portions.push((
                self.texts[engine as usize][place].get_or_init(|| text::<T>(self.body, engine, size)).as_str(),
                arguments,
            ));
        }
        Ok(portions)
    }
}

/// The statement for so many rows. SQLite would look each numbered parameter up among all of them.
fn text<T: Bound>(body: &str, engine: Engine, size: usize) -> String {
    let mut parameters = 0;
    let mut parameter = || {
        parameters += 1;
        match engine {
            Engine::Sqlite => "?".to_owned(),
            Engine::Postgres => format!("${parameters}"),
        }
    };
    let names: Vec<_> = T::COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut row = || {
        let values = T::COLUMNS.iter().map(|(_, kind)| match kind {
            Type::Text => parameter(),
            Type::Number => format!("CAST({} AS BIGINT)", parameter()),
        });
        format!("({})", values.collect::<Vec<_>>().join(","))
    };
    let rows: Vec<_> = (0..size).map(|_| row()).collect();
    let body = body.replace("NOW", &parameter());
    format!("WITH c ({}) AS (VALUES {}) {body}", names.join(", "), rows.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair(&'static str, i64);

    impl Bound for Pair {
        const COLUMNS: &'static [(&'static str, Type)] = &[("id", Type::Text), ("age", Type::Number)];

        fn bind(&self, to: &mut AnyArguments) -> Result<(), BoxDynError> {
            to.add(self.0.to_owned())?;
            to.add(self.1)
        }
    }

    #[test]
    fn a_text_has_a_place_for_each_value_and_the_time() {
        let expected = [
            (Engine::Sqlite, "WITH c (id, age) AS (VALUES (?,CAST(? AS BIGINT)),(?,CAST(? AS BIGINT))) SELECT ?"),
            (
                Engine::Postgres,
                "WITH c (id, age) AS (VALUES ($1,CAST($2 AS BIGINT)),($3,CAST($4 AS BIGINT))) SELECT $5",
            ),
        ];
        for (engine, expected) in expected {
            assert_eq!(text::<Pair>("SELECT NOW", engine, 2), expected);
        }
    }

    #[test]
    fn each_row_is_in_one_statement_of_a_known_size() {
        static NOTHING: Many = Many::new("SELECT NOW");
        for (rows, expected) in [(0, vec![]), (1, vec![1]), (5, vec![16]), (64, vec![64]), (257, vec![256, 1])] {
            let rows: Vec<_> = (0..rows).map(|age| Pair("a", age)).collect();
            let portions = NOTHING.portions(Engine::Sqlite, 0, rows.iter()).unwrap();
            let sizes: Vec<_> = portions.iter().map(|(_, arguments)| (arguments.len() - 1) / 2).collect();
            assert_eq!(sizes, expected);
        }
    }

    #[test]
    fn each_engine_has_its_own_text() {
        static NOTHING: Many = Many::new("SELECT NOW");
        let text = |engine| NOTHING.portions(engine, 0, [Pair("a", 1)].iter()).unwrap()[0].0;
        assert_ne!(text(Engine::Sqlite), text(Engine::Postgres));
    }
}
