"""Words that are in every text, of some languages; as :func:`services.library.words.words` gives them."""

from __future__ import annotations

__all__ = ["SPANISH", "STOP_WORDS"]

_STOP = {
    "en": (
        "a about all also am an and any are as at be been but by can could did do does for from had has have how "
        "i if in into is it its just may me more most my no not of on or our out she he should so some such than "
        "that the their them then there these they this to us was we were what when where which while who whom "
        "whose why will with would you your"
    ),
    "es": (
        "a al algo ante antes como con cual cuales cuando cuanta cuantas cuanto cuantos de del desde donde dos e "
        "el ella ellas ellos en entre era es esa esas ese eso esos esta estas este esto estos fue ha han hay la "
        "las le les lo los mas me mi mis muy ni no nos o os para pero por porque que quien quienes se ser si sin "
        "sobre son su sus tambien tan te tiene tienen tu tus un una unas uno unos y ya yo"
    ),
    "pt": (
        "ao aos as com da das dele do dos ela ele em essa esse isso isto mais mas na nas nao nem nos num numa "
        "onde os ou pela pelo por qual quando quanto quem seu sua sao tem um uma"
    ),
    "fr": (
        "au aux avec ce ces cette dans des du elle elles est et eux il ils je leur leurs lui ma mais mes moi mon "
        "ne notre nous ont ou par pas plus pour quand que quel quelle quelles quels qui sa sans ses son sont sur "
        "ta tes ton une vos votre vous"
    ),
    "de": (
        "aber als am an auch auf aus bei bin bis das dass dem den der des die doch du ein eine einem einen einer "
        "eines er es fur hat haben ich ihr im in ist ja kann mein mit muss nach nicht noch oder sein sich sie "
        "sind so uber um und uns von vor wann warum was welche welcher welches wenn wer wie wieviel wir wird wo "
        "zu zum zur"
    ),
}
STOP_WORDS = frozenset(word for text in _STOP.values() for word in text.split())
SPANISH = frozenset(_STOP["es"].split()) - frozenset(_STOP["en"].split()) - frozenset(_STOP["pt"].split())
"""Those that tell Spanish from the others."""
