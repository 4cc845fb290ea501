"""What a certificate does not say, and how it maps to three guidelines, in our own words.

The texts are constants of the certificate's format: a verifier compares them, so nobody can make a
certificate promise more than it does. Each row names the fields that answer a question, and what
stays with the organisation; no row says that a law is complied with.
"""

from sordino_protocols.certificate_facts import MappingEntry, StandardFacts

COMPOSITION_RULE = (
    "One person with a privacy unit at each of k sites: everything that those sites released for"
    " this run, composed by privacy loss distributions, at the job's own delta whatever k is. The"
    " k sites that cost most are taken, so it is the worst case."
)

LIMITS: tuple[str, ...] = (
    (
        "It is about this run. A person in several runs is protected by each site's lifetime"
        " budget, whose state is named here, and not by this run's epsilon alone."
    ),
    (
        "It is about the job's privacy unit. If the unit is a record, a person with several"
        " records at a site is protected less: the cost grows with their number."
    ),
    (
        "The sites state that they ran the mechanisms that they charged, and their signatures bind"
        " them to it. An audit of what was released can speak against that, and cannot prove it."
    ),
    (
        "It says nothing about people in other people's records, about facts that hold for whole"
        " groups and that a model is meant to learn, or about fairness between groups."
    ),
    (
        "It does not cover somebody who reads a site's records or has root on a vault's host, nor"
        " fine-grained timing."
    ),
    (
        "The sites are those that the server says it admitted. A site that took part in the run"
        " and is missing here should say so."
    ),
    (
        "The model's hash and the evaluation are the server's word, and an evaluation is known up"
        " to its intervals only."
    ),
    (
        "Whether the records may be processed at all, for this purpose and by these parties, is"
        " no matter of noise and is not answered here."
    ),
)


def _row(clause: str, asks: str, *answered_by: str, stays: str) -> MappingEntry:
    return MappingEntry(clause=clause, asks=asks, answered_by=answered_by, stays=stays)


_NIST = StandardFacts(
    title="NIST SP 800-226 (March 2025), Guidelines for Evaluating Differential Privacy Guarantees",
    entries=(
        _row(
            "Evaluation pyramid: privacy parameters",
            "how much privacy is lost at most, and by which variant of the definition",
            "job.epsilon",
            "job.delta",
            "sites.*.claims.epsilon_spent_pld",
            "composition.table",
            stays="choosing limits that fit the harm at stake",
        ),
        _row(
            "Evaluation pyramid: unit of privacy",
            "whose presence is hidden: one record, or all records of a person",
            "job.unit",
            "composition.rule",
            stays="declaring the column that names a person where people have several records",
        ),
        _row(
            "Variants: neighbouring data sets",
            "whether neighbours differ by adding and removing, or by replacing",
            "sites.*.claims.releases",
            stays="nothing: it is adding or removing one unit throughout",
        ),
        _row(
            "Composition and lifetime",
            "how losses of several releases add up, and what limits the total",
            "sites.*.claims.budget",
            "sites.*.claims.epsilon_spent_rdp",
            stays="a budget for each data set, and for every copy and view of it the same one",
        ),
        _row(
            "Evaluation pyramid: algorithms and correctness",
            "which mechanisms ran, and whether the software does what its proof assumes",
            "sites.*.claims.releases",
            "audits",
            stays="keeping the installed version the released one; reading what the audits found",
        ),
        _row(
            "Hazard: trust model",
            "who must be trusted with raw records",
            "sites.*.claims.network_cut_off",
            "sites.*.receipt",
            stays="each site trusts itself alone; its hosts and admins are its own to secure",
        ),
        _row(
            "Hazard: utility and bias",
            "how accurate the outcome is, and for whom it is not",
            "evaluation",
            stays="testing how the model serves small groups; noise weighs most on them",
        ),
        _row(
            "Evaluation pyramid: security and access control",
            "who can reach the records and change what is enforced",
            "sites.*.claims.policy_sha256",
            "sites.*.claims.ledger_settled",
            "sites.*.claims.approvals",
            stays="access to hosts, keys and backups",
        ),
        _row(
            "Evaluation pyramid: exposure by data collection",
            "what collecting and keeping the records exposes in the first place",
            stays="all of it: minimisation, retention, security of the raw records",
        ),
    ),
)

_EDPB = StandardFacts(
    title="EDPB Opinion 28/2024 (17 December 2024), data protection aspects of AI models",
    entries=(
        _row(
            "Anonymity of a model: likelihood of extraction",
            "whether personal data can be extracted from the model with insignificant likelihood",
            "sites.*.claims.bound",
            "composition.table",
            "audits",
            stays="judging case by case, with all means reasonably likely to be used; a bound on"
            " recognising members is evidence and no verdict",
        ),
        _row(
            "Anonymity of a model: likelihood of obtaining data by queries",
            "the same for whoever only asks the model",
            "sites.*.claims.bound",
            stays="nothing more for membership: queries of a released model lose no more privacy;"
            " facts that are true of a group can still be learnt",
        ),
        _row(
            "Design of the model: preparation and minimisation",
            "which data were chosen and how they were reduced",
            "job.body",
            stays="why these data and columns are needed, and the lawfulness of their sources",
        ),
        _row(
            "Design of the model: methods of training",
            "whether privacy-preserving methods were used, and how strong they are",
            "job.epsilon",
            "job.delta",
            "sites.*.claims.releases",
            stays="why this strength is enough",
        ),
        _row(
            "Analysis and tests: resistance to attacks",
            "whether the model was tested against known attacks, and what was found",
            "audits",
            stays="repeating tests as attacks improve; attacks beyond membership",
        ),
        _row(
            "Documentation",
            "records that let an authority check the claim of anonymity",
            "job",
            "sites.*.admission",
            "sites.*.receipt",
            "sites.*.claims.approvals",
            "signature",
            stays="impact assessment, advice of the data protection officer, and keeping these"
            " records",
        ),
        _row(
            "Legitimate interest, and lawfulness of the development",
            "whether there is a legal basis for training and for using the model",
            stays="all of it",
        ),
    ),
)

_ISO = StandardFacts(
    title="ISO/IEC 27559:2022, Privacy enhancing data de-identification framework",
    entries=(
        _row(
            "6.2 Threat modelling",
            "who might try to re-identify, with what means, against which practices",
            "limits",
            "sites.*.claims.bound",
            stays="motives and capacity of the recipients; the bound holds for any knowledge",
        ),
        _row(
            "6.3 Transparency and impact assessment",
            "what those concerned can know, and what harm could come",
            "sites.*.claims.bound",
            "limits",
            stays="telling people; assessing harms",
        ),
        _row(
            "7.2 Data features",
            "whom the data are about, of what type, with what properties",
            "job.dataset",
            "job.unit",
            "sites.*.claims.order_of_magnitude",
            stays="describing the data set itself; its schema is declared at each site",
        ),
        _row(
            "7.3 Attack modelling",
            "whether risk is taken at its maximum or on average, and by which privacy model",
            "job.epsilon",
            "composition.table",
            stays="nothing: the bound holds for every unit, and so at the maximum",
        ),
        _row(
            "8.2 Assessing identifiability",
            "a number for identifiability, a threshold, and adversarial testing",
            "sites.*.claims.bound",
            "sites.*.claims.epsilon_spent_pld",
            "audits",
            stays="setting the threshold that the numbers are compared with",
        ),
        _row(
            "8.3 Mitigation",
            "how environment and data were changed, and assessed again",
            "sites.*.claims.releases",
            "sites.*.claims.network_cut_off",
            stays="assessing again when data, recipients or attacks change",
        ),
        _row(
            "9 De-identification governance",
            "roles, principles, approvals, and what happens before and after data are available",
            "sites.*.claims.approvals",
            "sites.*.claims.policy_sha256",
            "sites.*.claims.budget",
            "sites.*.claims.ledger_settled",
            stays="naming who is responsible; monitoring; handling incidents",
        ),
    ),
)

STANDARDS: tuple[StandardFacts, ...] = (_NIST, _EDPB, _ISO)
