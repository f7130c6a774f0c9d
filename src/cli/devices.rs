//! `halite devices`

use super::error::Result;
use super::output::{self, say};

/// List the devices that models can run on
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  halite devices\n  halite devices --verbose\n  halite devices --json")]
pub struct Devices {
    /// Say more of each device, and what was looked for and not found
    #[arg(long, short)]
    verbose: bool,
    /// Print JSON: an array with an object for each device
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> Result<()> {
        let registry = halite::registry();
        let devices = registry.devices();
        if self.json {
            return output::json(&devices);
        }
        let heading = ["selector", "kind", "memory", "name", "driver"].map(String::from).to_vec();
        let mut rows = vec![heading];
        for d in &devices {
            let kind = serde_json::to_value(d.kind)?.as_str().unwrap_or_default().replace('_', " ");
            let memory = output::size(d.memory_bytes);
            rows.push(vec![d.selector.clone(), kind, memory, d.name.clone(), d.driver.clone()]);
        }
        output::table(&rows)?;
        if self.verbose {
            for d in &devices {
                say!("\n{}:", d.selector)?;
                let details = serde_json::to_value(d)?;
                for (key, value) in details.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
                    say!("  {key}: {value}")?;
                }
            }
            for (kind, note) in registry.notes() {
                say!("{kind}: {note}")?;
            }
        }
        Ok(())
    }
}
