"""Frequent words by language, without accents, and abbreviations. Pure."""

from __future__ import annotations

__all__ = ["ABBREVIATIONS", "STOP_WORDS"]

_WORDS = {
    "en": (
        "the of and to in a is that it was for on are as with his they at be this from have or by one had "
        "not but what all were when we there can an your which their said if do will each about how up out "
        "them then she many some so these would other into has more her two like him see time could no "
        "make than been its who now did you i he my"
    ),
    "es": (
        "de la que el en y a los del se las por un para con no una su al lo como mas pero sus le ya o este "
        "si porque esta entre cuando muy sin sobre tambien me hasta hay donde quien desde todo nos durante "
        "todos uno les ni contra otros ese eso ante ellos e esto mi antes algunos unos yo otro otras otra "
        "tanto esa estos mucho fue es son ser era"
    ),
    "fr": (
        "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont la "
        "cette ou son avec aux ces mais comme on tout nous sa fait ete aussi leur bien peut elle deux ont "
        "meme entre sans ses etre si dont etait apres je vous lui ils encore tres nos cela avait depuis"
    ),
    "de": (
        "der die und in den von zu das mit sich des auf fur ist im dem nicht ein eine als auch es an "
        "werden aus er hat dass sie nach wird bei einer um am sind noch wie einem uber einen so zum war "
        "haben nur oder aber vor zur bis mehr durch man sein wurde sei hatte kann gegen vom wenn habe ihre "
        "wir ich diese unter sehr doch schon"
    ),
    "it": (
        "di e il la che in a per un del non sono una i della con si da le come al piu dei nel gli ha alla "
        "lo delle anche ma se o nella dal suo questo ci ed essere era sua sul tra quando dalla stato degli "
        "ai loro questa fra dopo cui senza molto perche tutti io noi voi"
    ),
    "pt": (
        "de a o que e do da em um para com nao uma os no se na por mais as dos como mas ao ele das tem seu "
        "sua ou quando muito nos ja eu tambem so pelo pela ate isso ela entre depois sem mesmo aos ter "
        "seus quem nas me esse eles voce foi sao era ser esta pelos"
    ),
    "nl": (
        "de het een en van in is dat op te zijn voor met die niet aan er om ook als dan maar bij uit door "
        "naar over ze hij werd nog wel had heeft worden geen meer tot deze was wat of kan hun dit waar zij "
        "zich onder veel haar mijn"
    ),
    "ru": (
        "и в не на я он что с а то это как по но они к у мы из за от так же вы для о был было его все она "
        "бы только еще при до или если их чем была быть когда уже нет под во время том"
    ),
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
"""Words that say nothing of what a text is about."""
_SHORTENED = (
    "mr mrs ms dr prof sr sra srta st vs etc fig no vol pp ca approx inc ltd jr dept est gov gen col lt "
    "e.g i.e u.s a.m p.m z.b d.h bzw usw ggf nr abb s.a p.ej av mme mlle art ing dott sig ecc n.v b.v т.е "
    "т.д др"
)
ABBREVIATIONS = frozenset(_SHORTENED.split())
"""Words whose full stop ends no sentence."""
