//! HTML as it is written: text is escaped unless it is said to be markup.

/// A page that grows.
#[derive(Default)]
pub(crate) struct Html {
    pub(crate) text: String,
}

impl Html {
    /// Adds markup as it is.
    pub(crate) fn raw(&mut self, markup: &str) -> &mut Html {
        self.text.push_str(markup);
        self
    }

    /// Adds text.
    pub(crate) fn escaped(&mut self, text: &str) -> &mut Html {
        for c in text.chars() {
            match c {
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '&' => self.text.push_str("&amp;"),
                '"' => self.text.push_str("&quot;"),
                '\'' => self.text.push_str("&#39;"),
                // What turns the direction of a line, or ends it, would show something else than there is.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    self.text.push('\u{fffd}');
                }
                c => self.text.push(c),
            }
        }
        self
    }

    /// Adds an element that holds text. `open` is its name, and attributes if it has any.
    pub(crate) fn element(&mut self, open: &str, text: &str) -> &mut Html {
        let name = open.split(' ').next().unwrap_or_default();
        self.raw("<").raw(open).raw(">").escaped(text).raw("</").raw(name).raw(">\n")
    }

    /// Adds a table that can be scrolled by keyboard where it is too wide: a caption, heads, and rows of cells, whose first is
    /// the row's head.
    pub(crate) fn table(&mut self, caption: &str, heads: &[&str], rows: &[Vec<Cell>]) -> &mut Html {
        self.raw("<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"")
            .escaped(caption)
            .raw("\">\n<table>\n");
        self.element("caption", caption).raw("<thead><tr>\n");
        for head in heads {
            self.element("th scope=\"col\"", head);
        }
        self.raw("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.raw("<tr>");
            for (i, cell) in row.iter().enumerate() {
                self.cell(cell, i == 0);
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody>\n</table>\n</div>\n")
    }

    fn cell(&mut self, cell: &Cell, is_head: bool) {
        let name = if is_head { "th" } else { "td" };
        self.raw("<").raw(name);
        if is_head {
            self.raw(" scope=\"row\"");
        }
        if let Some(heat) = cell.heat {
            self.raw(&format!(" class=\"{}\" style=\"--heat:{:.0}%\"", heat.class, 100.0 * heat.share));
        }
        self.raw(">").escaped(&cell.text).raw("</").raw(name).raw(">");
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) heat: Option<Heat>,
}

/// How strongly a cell is colored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heat {
    /// The class of the style sheet that has the color.
    pub(crate) class: &'static str,
    /// From 0 to 1.
    pub(crate) share: f64,
}

impl Cell {
    /// One that is not colored.
    pub(crate) fn plain(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), heat: None }
    }
}
