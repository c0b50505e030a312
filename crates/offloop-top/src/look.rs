//! How a picture looks: colours by meaning, and letters for bars and rules.
//!
//! Each meaning is readable without its colour: it has a word, a letter or an attribute of its own.
//! Colours are the sixteen of the terminal's own palette, so that they fit its background.

use ratatui_core::style::{Color, Modifier, Style};

/// What a piece of the picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// As it is.
    Plain,
    /// Of less weight.
    Faint,
    /// The name of a part.
    Title,
    /// A name of the program's.
    Name,
    /// As it should be.
    Good,
    /// To be looked at.
    Warning,
    /// Blocked, or broken.
    Bad,
    /// The same, where it must be seen first.
    Alarm,
    /// A key.
    Key,
    /// What the keys act on.
    Chosen,
}

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Colours and attributes.
    Colours,
    /// Bold, faint and reversed letters.
    Attributes,
    /// Letters alone.
    Nothing,
}

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What the terminal can do.
    pub paint: Paint,
    /// It shows letters outside of ASCII.
    pub unicode: bool,
}

/// The letters of bars, rules and shades.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    /// From nothing to all.
    pub shades: [&'static str; 5],
    /// Parts of a letter's width, from one eighth to seven; the whole one is `full`.
    pub parts: &'static [&'static str],
    /// A whole one of a bar.
    pub full: &'static str,
    /// What is left of a bar.
    pub empty: &'static str,
    /// Heights, from nothing to all.
    pub heights: &'static [&'static str],
    /// A line across.
    pub rule: &'static str,
    /// A line down.
    pub wall: &'static str,
    /// Before what is chosen.
    pub chosen: &'static str,
    /// What a text was cut with.
    pub cut: &'static str,
    /// Between two parts of a sentence.
    pub dot: &'static str,
    /// From a function to the one that it called or awaits.
    pub into: &'static str,
    /// Before a cure.
    pub cure: &'static str,
    /// A branch, the last one, a trunk that goes on, and none.
    pub tree: [&'static str; 4],
    /// Before a list that stands still.
    pub paused: &'static str,
}

const UNICODE: Signs = Signs {
    shades: [" ", "\u{2591}", "\u{2592}", "\u{2593}", "\u{2588}"],
    parts: &[
        "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}",
    ],
    full: "\u{2588}",
    empty: "\u{00b7}",
    heights: &[
        " ", "\u{2581}", "\u{2582}", "\u{2583}", "\u{2584}", "\u{2585}", "\u{2586}", "\u{2587}",
        "\u{2588}",
    ],
    rule: "\u{2500}",
    wall: "\u{2502}",
    chosen: "\u{25b6}",
    cut: "\u{2026}",
    dot: "\u{00b7}",
    into: "\u{203a}",
    cure: "\u{2192}",
    tree: ["\u{251c}\u{2500}", "\u{2514}\u{2500}", "\u{2502} ", "  "],
    paused: "\u{2016}",
};

const ASCII: Signs = Signs {
    shades: [" ", ".", ":", "+", "#"],
    parts: &[],
    full: "#",
    empty: ".",
    heights: &[" ", ".", ":", "+", "#"],
    rule: "-",
    wall: "|",
    chosen: ">",
    cut: "..",
    dot: "-",
    into: ">",
    cure: "->",
    tree: ["|-", "`-", "| ", "  "],
    paused: "=",
};

impl Look {
    /// Letters of ASCII, and nothing else: what every terminal and every log shows.
    pub const PLAIN: Self = Self {
        paint: Paint::Nothing,
        unicode: false,
    };

    /// The same letters without colours.
    #[must_use]
    pub fn without_paint(self) -> Self {
        Self {
            paint: Paint::Nothing,
            ..self
        }
    }

    /// By the variables of the environment: `NO_COLOR`, `TERM`, and the locale's.
    #[must_use]
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let unicode = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        let paint = match (dumb, set("NO_COLOR")) {
            (true, _) => Paint::Nothing,
            (false, Some(_)) => Paint::Attributes,
            (false, None) => Paint::Colours,
        };
        Self {
            paint,
            unicode: unicode && !dumb,
        }
    }

    /// The letters to draw with.
    #[must_use]
    pub fn signs(self) -> &'static Signs {
        if self.unicode { &UNICODE } else { &ASCII }
    }

    /// How a meaning is shown.
    #[must_use]
    pub fn style(self, meaning: Meaning) -> Style {
        let plain = Style::new();
        match (self.paint, meaning) {
            (Paint::Nothing, _) | (_, Meaning::Plain) => plain,
            (_, Meaning::Faint) => plain.add_modifier(Modifier::DIM),
            (_, Meaning::Chosen) => plain.add_modifier(Modifier::REVERSED),
            (Paint::Attributes, Meaning::Name | Meaning::Good) => plain,
            (Paint::Attributes, Meaning::Alarm) => {
                plain.add_modifier(Modifier::BOLD | Modifier::REVERSED)
            }
            (Paint::Attributes, _) => plain.add_modifier(Modifier::BOLD),
            (Paint::Colours, Meaning::Title) => plain.add_modifier(Modifier::BOLD),
            (Paint::Colours, Meaning::Name) => plain.fg(Color::Cyan),
            (Paint::Colours, Meaning::Good) => plain.fg(Color::Green),
            (Paint::Colours, Meaning::Warning) => plain.fg(Color::Yellow),
            (Paint::Colours, Meaning::Bad) => plain.fg(Color::Red),
            (Paint::Colours, Meaning::Alarm) => plain
                .fg(Color::White)
                .bg(Color::Red)
                .add_modifier(Modifier::BOLD),
            (Paint::Colours, Meaning::Key) => plain.fg(Color::Cyan).add_modifier(Modifier::BOLD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(variables: &[(&str, &str)]) -> Look {
        Look::of_environment(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_says_what_the_terminal_can_do() {
        let here = [("TERM", "xterm-256color"), ("LANG", "en_US.UTF-8")];
        let all = Look {
            paint: Paint::Colours,
            unicode: true,
        };
        assert_eq!(look(&here), all);
        let plain = look(&[here[0], here[1], ("NO_COLOR", "1")]);
        assert_eq!(plain.paint, Paint::Attributes);
        assert!(plain.unicode);
        assert_eq!(look(&[here[0], here[1], ("NO_COLOR", "")]), all);
        assert_eq!(look(&[("TERM", "dumb"), here[1]]), Look::PLAIN);
        assert_eq!(look(&[here[1]]), Look::PLAIN);
        let latin = look(&[here[0], here[1], ("LC_ALL", "C")]);
        assert!(!latin.unicode);
    }

    #[test]
    fn without_colour_no_meaning_has_one() {
        for paint in [Paint::Attributes, Paint::Nothing] {
            let look = Look {
                paint,
                unicode: true,
            };
            for meaning in [Meaning::Bad, Meaning::Alarm, Meaning::Name, Meaning::Key] {
                let style = look.style(meaning);
                assert_eq!((style.fg, style.bg), (None, None));
            }
        }
    }
}
