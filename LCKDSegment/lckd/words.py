"""The vocabulary of series names: which words speak for which sequence, for contrast medium, or for something else.

A name is first brought to one spelling (``split_words``), then looked at word by word, so that order, letter case and
separators do not matter. Sources: the habits of Siemens, GE, Philips, UIH and Canon, of sites in a dozen languages,
BraTS of every year, and BIDS.
"""

import re
import unicodedata

OTHER = "none of the four"
LONGEST_NAME, LONGEST_WORD = 512, 64  # characters; a longer one is no name, no word

SURE, LIKELY, HINT = 10.0, 2.0, 1.0
"""Points. SURE is a veto: a mask of a FLAIR, or a diffusion image prepared like one, is no FLAIR."""
NAMED = 3.0
"""Points of T1 or T2 as a word."""

# What may stand before T1 or T2 in one word: resampling marks, plane, dimension, sequence family. Not "patient". No
# alternative may be spelled with others (se is s, e): a name of forty such letters would take seconds.
LEAD = r"(?:[0-9mrsnwcef]|[23]d|ax|sag|cor|tra|axial|sagittal|coronal|oax|osag|ocor|tse|ir|gre|cube|space|brain|head)*"
BODY = (
    r"[ctl]?spine|spinal\w*|cervical\w*|thora\w*|lumba\w*|lumbo\w*|lumbosacral|[hbl]ws|wirbel\w*|columna|rachis|colonna|"
    r"vertebr\w*|knee|knie|rodilla|genou|hip|hips|wrist|shoulder|schulter|ankle|elbow|liver|leber|abdom\w*|pelvi[sc]\w*|"
    r"neck|hals|cuello|collo|iacs?|iam|myelo\w*|tmj|orbit\w*|becken|prostat\w*|breast|mamma\w*|cardiac|heart|mrcp|"
    r"renal|kidney\w*|chest|uterus|rectum|foot|hand|腰椎|颈椎|胸椎|膝"
)

# Words of a series name: (whole-word pattern, what it speaks for, points, what it is).
_WORDS = [
    (r"\w*(dwi(?![gn])|dti|(?<!he)adc|trace|tensor|hardi(?!n)|noddi|dki)\w*|diff(usion)?\w*|fa|md|colfa|apparent|b\d{3,4}|ivim",
     OTHER, SURE, "diffusion"),
    (r"(sag|ax|cor|tra|t2)?(swi|swan|vibravo|hemo|venobold|qsm|minip)\w*|susceptibility|swp|phase|pha", OTHER, SURE,
     "susceptibility"),
    (r"t2star\w*|t2s|star|medic|merge", OTHER, SURE, "T2*"),
    (r"(3d)?tof|mr[av]\d*\w?|\w*angio\w*|venc\d*|pc3d|pca|inhance|twist|mip|mips|smip", OTHER, SURE, "angiography"),
    (r"s?pwi|perf\w*|perfusion|dsc|dce|\w*asl|cbf|cbv|rcbv|rcbf|mtt|ttp|tmax|ktrans|ep2d|epi|bold|fmri|rsfmri|sbref",
     OTHER, SURE, "perfusion or functional imaging"),
    (r"csi|mrs|svs|spectro\w*|\w?laser|mega|prescan", OTHER, SURE, "spectroscopy"),
    (r"(aah)?scout\w*|loca?|lo[ck]ali\w*|survey|topogram|smartbrain|plane|\dplane|3pl|posici\w*|\w*setter", OTHER, SURE,
     "a localizer"),
    (r"\w*seg\d*|segm\w*|\w*segmentation\w*|label\w*|\w*mask\d*|roi|voi|gtv\w*|gt|truth|annot\w*|overlay|contour\w*|rtstruct|ot",
     OTHER, SURE, "a segmentation or mask"),
    (r"pve|mwp\d\w*|prob(\d+|ab\w*|maps?)?|gm|wm|[mrswu]*c[1-6]t[12]\w*|bias(field)?|\w*ratio", OTHER, SURE,
     "something computed from an image"),
    (r"rho|(iso)?\w*map(s|ping|it)?|molli|relaxometry|b[01]|calib\w*|distortion\w*|topup|\d*echoes|mtr|inv[12]",
     OTHER, SURE, "a map or calibration"),
    (r"delta(t1)?\w?|fusion|fused|vrt|screen\w*|capture|apt[wt]?|cest\w*", OTHER, SURE, "made from other images"),
    (r"atlasimage", OTHER, SURE, "an atlas"),
    (r"sub|subtr\w*|su[bs]s?trac\w*|soustrac\w*|sottraz\w*|difference|jacobian|\d?(inverse)?warps?", OTHER, SURE,
     "a subtraction"),
    (r"dyn|dyna\w*", OTHER, SURE, "a dynamic series"),
    (r"opp|opposed", OTHER, SURE, "fat and water in opposed phase"),
    (BODY, OTHER, SURE, "another part of the body"),
    (r"dir|psir|\w?stir|fgatir|wmn", OTHER, SURE, "another inversion technique"),
    (r"ct|cta|pet|spect|dose|report|dixon|ute|zte", OTHER, LIKELY, "another technique"),
    (r"\w*fiesta\w*|ciss\w*|ci3d\w*|trufi\w*|true?fisp|fisp|psif|dess|balanced", OTHER, SURE,
     "a balanced gradient echo"),
    (r"pdw?|proton|dens\w*|dp", OTHER, HINT, "proton density"),
    (r"\w*(flair|fliar|flar)\w*|\w*tirm\w*|darkfluid|fla?|\d*t2f|t2fl|\w*(压水|黑水)\w*", "FLAIR", 6.0,
     "fluid attenuation"),
    (LEAD + r"t2(?!f$|fl$|flair|s$|star|map|swi)\w*", "T2", NAMED, "T2"),
    (LEAD + r"t1(?!map|[0-2]$)\w*|unit1|ct1", "T1", NAMED, "T1"),
    (r"\w*(mp2?rage|fspgr|bravo|spgr|mdeft)\w*|mp|rage|tfe|tfl\w*|vibe\w*|thrive|flash\w*|ffe", "T1", LIKELY,
     "a T1-weighted gradient echo"),
    (r"haste|ssfse|propeller|blade|multivane|drive", "T2", HINT, "a T2-weighted technique"),
]  # fmt: skip
WORDS = [(re.compile(pattern), target, points, meaning) for pattern, target, points, meaning in _WORDS]

GRADIENT_ECHO = re.compile(
    r"\w*gre|mpgre?|ha?em\w*|\w*gre\w*t2\w*|grad|gradient\w*|\w?ffe|eg|etoile|me2d|fl[23]d|flash\w*|hemo\w*"
)
"""Beside T2, and not beside T1: T2*."""
DUAL_ECHO = re.compile(r"pdw?|proton|dp|dual|double|mese|\d*e1|echo1")
SECOND_ECHO = re.compile(r"(pluse?)?e2|plust2|\d*e2|echo2")
"""A double echo's second is the T2; the first, or both in one, is not."""

# Words that say whether contrast medium was given (only T1 keeps it; a post-contrast T2 is a T2).
AGENT = re.compile(LEAD + r"t1_?(ce|c|gd\w*|gad\w*|km|kontrast\w*|mdc|plusc)(w|\d*)|ct1")
"""Contrast medium as part of the sequence's own name: T1ce, T1Gd. A "pre" beside it is the operation's."""
WITH = re.compile(
    r"plus(c|gd|gado?\w*|km|k|mdc|cm|contrast\w*|ce|iv)|post|postc|post(contrast|gad|gd|km|inj|con|kontrast)\w*|"
    r"\w*(gado|magnevist|dotarem|omniscan|gadavist|gadovist|prohance|multihance|clariscan|elucirem|vueway|contrast|"
    r"kontras[ct]|контраст)\w*|" + LEAD + r"t1\w*(post\w*|gd|gad\w*|km)|c|ce|gd|gad|\w*[a-z](gd|km)|km|civ|mdc|kl|"
    r"ку|inj\w*|inyectad\w*|pos|avec|nach|dopo|apres|despues|depois|stealth|enhanced|\w*增强\w*|\w*造影\w*|\w*조영\w*|"
    r"pgd|cont|contr\w?|kontr|enh|gbca|ks|primovist|vasovist|кв|mpragec|spgrc|f?spgr3dc"
)
WITHOUT = re.compile(
    r"wo|without|noncontrast|pre|prec|pre(contrast|gad|gd|km|inj|con|kontrast)\w*|nativ\w?|plain|unenhanced|ohne|senza|"
    r"sans|sin|sem|vor|avant|antes|prima|zonder|voor|bez|без|utan|uden|basal\w*|\w*平扫\w*|\w*非增强\w*|nogd|nocontrast|"
    r"nonce|\w*kontrasts[iı]z\w*|kein\w*|fore|før|uten|przed|pred|prije|ennen|onces\w*|до|ante|\w*(前|전|なし)|"
    r"before|previo|avt|ej|(?:ohne|o|no|non|sin|sans|sem|senza|bez|uten|utan|uden|ej)(?:km|gd|gad\w*|[ck]ontra\w*|mdc|cm)|"
    r"비조영\w*|\w*[未无無](增强|造影)\w*"
)
DENIED = {
    "no", "none", "n", "na", "without", "ohne", "kein", "keine", "nativ", "unspecified", "sans", "sin", "nil",
    "non", "noncontrast", "not", "wo", "false", "null", "off",
}  # fmt: skip
"""Words by which the tag ContrastBolusAgent says that there was none."""

ATLAS = re.compile(r"(?<![a-z])(?:mni|icbm|talairach|template|atlas)|^s?m?w(?=t[12]|flair)")
"""In a name in lower case: the volume was brought to an atlas; a w in front is SPM's."""

REPEAT = re.compile(r"(?<![a-z])(?:rep(?:eat\w*)?|rpt|wdh|wiederh\w*|redo)(?![a-z])|[\s_-]\d$")
"""In a name in lower case: the series was taken once more."""

_SEQUENCE = re.compile(
    r"(?<![a-z])(?:ct|pet|spect|us|asl|seg|mask)(?![a-z])|t1|t2|flair|mp2?rage|spgr|dwi|adc|swi|perf|tof"
)
_REGISTERED = (
    r"(?<![a-z0-9])(?:(?:(?:co)?reg(?:istered)?|rigid|r2s|aligned)[\s_-]*(?:2|to|in|on|reg)?|2|to|in|on)[\s_-]*"
    r"(?:t1[a-z]*|t2[a-z]*|flair|mni\w*)(?![a-z0-9])(?:[\s_-]*space)?|"
    r"(?<![a-z0-9])space-(?:t1[a-z]*|mni\w*)(?![a-z0-9])|"
    r"(?<![a-z0-9])t1[a-z]*?[\s_-]*(?:reg|space)(?![a-z0-9])"
)


def _unless_first(found: re.Match) -> str:
    """The target of a registration is left out where a sequence stands before it: ``flair_2_t1``, not ``case_2_t1``."""
    return " " if _SEQUENCE.search(found.string, 0, found.start()) else found[0]


_GLUED = r"f?gre|mpgr|[bt]?ffe|ha?emo|pdw?|stir|dir|psir|ciss|fiesta|epi|sub|dyn|dce|perf[a-z]*|rho|roi|label|loc"
"""What may follow T1 or T2 without a gap and makes it something else."""
_EVENT = (
    r"op(?![a-z])|oper|surg|proc|treat|tx|rt(?![a-z])|srs|sbrt|gk(?![a-z])|gamma|radi|chemo|litt|laser|ablat|biops|bx|"
    r"resec|crani|dbs|implant|embol|stroke|trauma|ictal|mortem|fossa"
)
"""What a "pre" or "post" may speak of instead of contrast medium."""

# Read before the words, in this order: (pattern of the lower-case name, what takes its place).
_PHRASES = [
    (r"^fl\s*:\s*c?(?=[\s/|_])", " "),  # GE writes the plane as FL:C/OAx
    (r"%20|(?<=[^\W\d_])\.|\.(?=[^\W\d_])", " "),
    (r"[тτ](?=[12])", "t"),  # Cyrillic and Greek letters that look like a T
    (r"processed[\s_-]*captk|brats\d*", " "),
    (r"^\d+[\s_]t\d[\s_](?=t1|t2|flair|adc|dwi|gtv|seg)", " "),  # the time point of 8_t2_t1gd
    (r"(?<=_)(t1[a-z]*|t2|flair)_bias$", lambda found: found[1] if found.string.startswith("ucsf") else found[0]),
    (r"^(?:tpl-\S+?(?=_)|mni152|mni[\s_]*icbm\w*|icbm152\w*|avg152)", " atlasimage "),
    (r"^sub[_-](?!t[12])[a-z]+\d[a-z0-9]*", " "),
    # Two words written as one, one as two.
    (r"(?<![a-z0-9.])(?<!\d )t (?=[12](?![0-9a-z.]))(?!..\s*mm)", "t"),
    (rf"(t[12]w?i?)(?=(?:{_GLUED})(?![a-z]))", r"\1 "),
    (r"pd(?=t2)", "pd "),
    (r"min[\s_-]*ip(?![a-z])", " minip "),
    (r"(?<=t2)[\s_]+ge(?![a-z0-9])", " gre"),
    (r"(?<=t2)[\s_]+multi[\s_-]*echo", " mese"),
    (r"(?<![a-z0-9])[cl]\d{1,2}\s*-\s*[cdls]\d{0,2}(?![a-z0-9])", " spine "),  # C1-C8
    (r"(?<=_)space-[a-z0-9]+(?=_)", lambda found: " " if found.string.startswith("sub-") else found[0]),
    (r"t1[\s_]*(?:post[a-z]*|ce|c|gd|gad[a-z]*|km)[\s_]*(?:-|minus)[\s_]*t1\w*", " subtraction "),
    (r"t1w?[\s_]*(?:-|minus)[\s_]*t1(?:ce|c|gd|km)(?![a-z])|post[\s_]*(?:-|minus)[\s_]*pre(?![a-z])", " subtraction "),
    (r"(brain|head)[\s_/&+-]*(?:and|with)?[\s_/&+-]*(?:orbits?|iacs?|neck)(?![a-z])", r"\1"),
    (r"bias[\s_-]*(?:field)?[\s_-]*corr\w*", " "),
    (r"(?<![a-z0-9])sub(j|ject)?[\s_-]*\d+|(?<![a-z0-9])(sub|ses|run|rec|dir|echo|part)-[a-z0-9]+", " "),  # BIDS
    (r"(?<![a-z0-9])(acq|inv)-", r"\1"),
    (r"(?<![a-z0-9])acq", " "),
    # Technical remarks that are no contrast of their own.
    (r"phase(?=[\s_-]*(?:[aphr]|enc|dir|l[\s_-]*r|r[\s_-]*l))", " "),
    (r"b1[\s_-]*corr\w*|grad[\s_-]*warp|prescan[\s_-]*norm\w*|(?<![a-z])fa[\s_=-]*\d{1,3}(?!\d)", " "),
    (r"(brain[\s_-]*)?mask[\s_-]*applied|star(?=[\s_-]*vibe)", " "),
    (r"(tse[a-z0-9_\s.-]*?)[_\s]warp(?![a-z])", r"\1 "),  # against metal; any other warp is a deformation
    (r"no[\s_-]*phase[\s_-]*wrap|phase[\s_-]*(?:swap|wrap|over\w*|fov)", " "),
    (r"head[\s_-]*foot|foot[\s_-]*head", " "),
    (r"(to|2)[\s_-]*[a-z0-9]+[\s_-]*warp(?![a-z])", " jacobian "),
    (r"t2\s*\*", "t2star "),
    (r"t1[\s_-]*images?(?![a-z])", " t1map "),
    (r"b[\s_-]+ffe|(?<![a-z])s?b[\s_-]*tfe", "balanced"),
    (r"spc[\s_-]*ir(?![a-z])", "flair"),
    (r"fluid[\s_-]*attenuat[a-z]*", "flair"),
    (r"dark[\s_-]*fl(uid)?(?![a-z])|(?<![a-z])da[\s_-]*fl(?![a-z])", "darkfluid"),
    (r"(?<![a-z])([ctl])[\s_-]+spine", r"\1spine"),
    (r"mpr-(?=\d)", "mprage"),
    (r"mp[\s_-]*rage", "mprage"),
    (r"smart[\s_-]*brain", "smartbrain"),
    # With and without.
    (r"w\s*/\s*o[\s_-]*(?=fs|fat)", " "),
    (r"w\s*/\s*o(ut)?(?![a-z])|(?<![a-z0-9])s\s*/\s*(?=c|g)", " wo "),
    (r"(?<![a-z0-9])(?:o\s*\.?\s*(?=km)|[su]\s*[/.]\s*(?=mdc|k|gd|gado|[ck]ontr))", " wo "),
    (r"contrast[\s_-]*free", " noncontrast "),
    (r"(?<![a-z])non?[\s_-]*(contrast|enhanced|enhancing|inj[a-z]*|gad[a-z]*|gd|ce|c)(?![a-z])", " noncontrast "),
    (r"(?<![a-z0-9])c\s*-(?![a-z0-9])|(?<=\s)-(?:c|gd|gad|km|cm)(?![a-z0-9])", " noncontrast "),
    (r"(?:gd|gad|km|cm|ce)[\s_]*(?:-[\s_]*$|\(\s*-\s*\))|(?<![a-z0-9.])0[\s_]*(?:gd|gad|km)(?![a-z])", " noncontrast "),
    (rf"(pre|post)[\s_.-]*(?:{_EVENT})[a-z]*", " "),
    (r"poster(ior|o)[a-z]*|processed|captk", " "),
    (_REGISTERED, _unless_first),  # the target of a registration is not what the image shows
    (r"\+\s*(?=(?:c|gd|gad|km|k|mdc|cm|contrast|kontrast|ce|iv)(?:[^a-z]|$|[a-z]{3}))", " plus"),
    (r"(?<![a-z0-9])m\s*/\s*k(?![a-z])|\+\s*[ск]в?(?=$|[\s_])", " plusc "),
    (r"(?<=t1)w?\s*\+(?=[\s_])(?!\s*(?:c|gd|gad|km|k|mdc|cm|t2))", " plusc "),
    (r"\+\s*$|\(\s*\+\s*\)|(?<![a-z])with\s*$", " plusc"),
]  # fmt: skip
PHRASES = [(re.compile(pattern), replacement) for pattern, replacement in _PHRASES]


# Two words that mean one thing wherever they stand in a name.
PAIRS = [
    ((re.compile("dark"), re.compile("fluid")), "darkfluid"),
    ((re.compile("non?"), re.compile(r"contrast\w*|gad\w*|gd|km|inj\w*")), "noncontrast"),
]


def split_words(text: str) -> set[str]:
    """The words of a name in one spelling: lower case, no accents, ``+C`` as ``plusc``, ``T2*`` as ``t2star``."""
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Cf")).casefold()
    text = unicodedata.normalize("NFC", text)  # Korean syllables had been taken apart, too
    text = re.sub(r"(?<=[\u3040-\ud7af])(?=[a-z0-9])", " ", re.sub(r"\s+", " ", text))
    for pattern, replacement in PHRASES:
        text = pattern.sub(replacement, text)
    words = {word for word in re.findall(r"[^\W_]+", text) if len(word) <= LONGEST_WORD}
    return words | {together for apart, together in PAIRS if all(matching(pattern, words) for pattern in apart)}


def matching(pattern: re.Pattern, words: set[str]) -> list[str]:
    """The words that a pattern matches as a whole, in alphabetical order."""
    return sorted(word for word in words if pattern.fullmatch(word))
