//! Bars, as SVG.

use std::fmt::Write as _;

/// One plot: a bar for each system.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) colour: &'static str,
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 80.0;
const BAR: f64 = 20.0;
const TITLE: f64 = 34.0;

/// All plots in one picture, one below the other.
pub(crate) fn svg(plots: &[Plot]) -> String {
    let height: f64 = plots.iter().map(Plot::height).sum::<f64>() + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut top = 0.0;
    for plot in plots {
        plot.draw(top, &mut svg);
        top += plot.height();
    }
    svg.push_str("</svg>\n");
    svg
}

impl Plot {
    fn height(&self) -> f64 {
        self.bars.iter().map(|_| BAR).sum::<f64>() + TITLE
    }

    fn draw(&self, top: f64, svg: &mut String) {
        let most = self.bars.iter().map(|bar| bar.value).fold(1e-9, f64::max);
        let mut y = top + TITLE;
        let mut text = format!(
            "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>\n",
            top + 24.0,
            self.title
        );
        for bar in &self.bars {
            let length = bar.value.max(0.0) / most * (WIDTH - LEFT - RIGHT);
            writeln!(
                text,
                "<text x=\"8\" y=\"{base}\">{}</text>\n\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.0}\" height=\"{}\" fill=\"{}\"/>\n\
                 <text x=\"{:.0}\" y=\"{base}\">{}</text>",
                bar.name,
                BAR - 4.0,
                bar.colour,
                LEFT + length + 6.0,
                number(bar.value),
                base = y + 12.0,
            )
            .expect("a String takes everything");
            y += BAR;
        }
        svg.push_str(&text);
    }
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
