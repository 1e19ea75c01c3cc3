//! Where a project's visitors came from: its settings as the worker's rules.

use trackway_domain::channel::{ChannelCondition, ChannelPreset, ChannelRule, ChannelRules, SiteAddress};

use crate::config::settings::Project;

/// The rules of one project among all.
pub(super) fn rules(project: &Project, all: &[Project]) -> ChannelRules {
    let own_sites = addresses(&project.own_sites);
    // Two projects may share a site; whose visitors move within it, move within both.
    let others = all.iter().filter(|other| other.id != project.id).flat_map(|other| addresses(&other.own_sites));
    let other_sites = others.filter(|site| !own_sites.contains(site)).collect();
    let condition = |text: &String| ChannelCondition::parse(text).expect("the config was checked");
    let rule = |rule: &crate::config::settings::ChannelRule| ChannelRule {
        channel: rule.channel.clone(),
        any: rule.any,
        conditions: rule.conditions.iter().map(condition).collect(),
    };
    ChannelRules {
        preset: ChannelPreset::parse(&project.channels).expect("the config was checked"),
        own: project.channel_rules.iter().map(rule).collect(),
        own_sites,
        other_sites,
        ignored_referrers: addresses(&project.ignored_referrers),
    }
}

fn addresses(texts: &[String]) -> Vec<SiteAddress> {
    texts.iter().map(|text| SiteAddress::parse(text).expect("the config was checked")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_project_owns_is_anothers_other_site() {
        let project = |id: &str, sites: &[&str]| Project {
            id: id.into(),
            own_sites: sites.iter().map(|&site| site.into()).collect(),
            ..Project::stand_in()
        };
        let all = [project("a", &["a.example", "both.example"]), project("b", &["b.example", "both.example"])];
        let texts = |sites: &[SiteAddress]| sites.iter().map(SiteAddress::to_string).collect::<Vec<_>>();
        let found = rules(&all[0], &all);
        assert_eq!(texts(&found.own_sites), ["a.example", "both.example"]);
        assert_eq!(texts(&found.other_sites), ["b.example"]);
        assert_eq!(rules(&Project::stand_in(), &[Project::stand_in()]), ChannelRules::USUAL);
    }
}
