"""The closed-class words of questions: about a document in six languages, for a kind of thing in all that are told.

A group in a pattern is what it leaves open: those words must be empty too.
"""

import re

CHAT = re.compile(
    r"(?:(?:hi|hello|hey|hallo|bonjour|salut|hola|good (?:morning|day|evening|afternoon)|guten (?:tag|morgen|abend)"
    r"|thanks?|thank you|many thanks|danke|merci|gracias|ok(?:ay)?|great|cool|nice|bye|goodbye|tschüss|adiós"
    r"|how are you|who are you|what are you|what can you do|what can i ask(?: you)?|help"
    r"|你好|您好|谢谢|再见|مرحبا|السلام عليكم|شكرا)"
    r"(?:\s+(?:there|again|very much|so much|a lot|you|vielmals|schön|beaucoup|bien|mucho|muchas))*\s*)+"
)

_SURE = (
    (
        "pages",
        r"how many pages|number of pages|page count|wie ?viele seiten|seitenzahl|combien de pages|nombre de pages"
        r"|cu[aá]ntas p[aá]ginas|n[uú]mero de p[aá]ginas|(?:多少|几)页|页数|كم (?:عدد )?(?:ال)?صفح(?:ة|ات)"
        r"|عدد (?:ال)?صفحات",
    ),
    (
        "author",
        r"who (?:has )?(?:wrote|written|authored)|(?:by whom|who) (?:was|is) (.*)(?:written|authored)(?: by)?"
        r"|authors?\b|wer hat (.*)(?:geschrieben|verfasst)|autor(?:en|in)?\b"
        r"|verfasser(?:in)?\b"
        r"|qui (?:l['’] ?)?a (.*)(?:écrit|rédigé)|auteure?s?\b|qui[eé]n(?:es)? (?:lo |la )?escribi(?:ó|o|eron)"
        r"|autor(?:a|es)\b|作者(?:是谁)?|谁写的?|من (?:هو )?(?:ال)?(?:مؤلف|كاتب)|من (?:كتب|ألف)",
    ),
    (
        "outline",
        r"table of contents|contents|chapters?\b|headings?\b|outline|sections?\b|toc\b|inhaltsverzeichnis|kapitel"
        r"|gliederung|table des matières|chapitres?|sommaire|[ií]ndice|cap[ií]tulos?|目录|章节"
        r"|(?:哪些|几)章|فهرس|(?:ال)?فصول",
    ),
    (
        "whole",
        r"summar(?:y|ies|i[sz]e[sd]?|i[sz]ing|i[sz]ation)|overview|gist|tl;?dr|recap|synopsis|nutshell|takeaways?"
        r"|(?:main|key|central|most important|principal|essential|major) (?:points?|ideas?|findings?|topics?|themes?"
        r"|messages?|takeaways?|facts|things|contents?|conclusions?|subjects?|results?)"
        r"|what(?:['’]?s| is| are| was)\b(.*)\babout\b|fass\w*\b(.*)\bzusammen|zusammenfass\w*|worum geht(?:['’]?s)?"
        r"|wovon handelt|hauptpunkte|kernaussagen?|überblick|r[ée]sum\w*|de quoi (?:parle|traite|s['’]agit)"
        r"|points (?:principaux|clés)|de qu[eé] (?:trata|habla)|puntos (?:principales|clave)"
        r"|总结|概括|概述|摘要|主要内容|[讲说写](?:了|的是|的)?(?:些)?什么|关于什么"
        r"|لخ[ّ]?ص|ملخص|تلخيص|عن ماذا|عم[ّ]? يتحدث|ما (?:هو )?موضوع",
    ),
    ("title", r"title|titel|titre|t[ií]tulo|标题|题目|عنوان"),
    ("date", r"publication date|发布日期"),
    ("language", r"(?:what|which) language|welche[rn]? sprache|quelle langue|qu[eé] idioma|什么语言|ما لغة"),
    ("file", r"file ?name|file size|dateiname|nom du fichier|nombre del archivo|文件名"),
)
_IF_NAMED = (
    ("pages", r"how long (?:is|was)|wie lang ist|length"),
    (
        "author",
        r"who (?:has )?(?:made|created|prepared|compiled)"
        r"|(?:by whom|who) (?:was|is) (.*)(?:made|created|prepared)(?: by)?",
    ),
    ("outline", r"structured?|organi[sz]ed"),
    (
        "whole",
        r"what (?:does|do|did) (.*)(?:deal with|cover|discuss|talk about|contain|say|tell (?:me|us))$|describe|explain"
        r"|^what(?:['’]?s| is) (?:this|the|it)\b|tell (.*)\babout"
        r"|what(?:['’]?s| is) (.*)(?:topic|subject|theme|purpose|point|message|content)\b",
    ),
    ("title", r"what(?:['’]?s| is) (.*)(?:called|name)\b|wie heißt"),
    (
        "date",
        r"when (?:was|is) (.*)(?:written|published|issued|released|dated|printed|created|made)|date of|\bdated?\b"
        r"|how old is|wann (.*)(?:geschrieben|veröffentlicht|erschienen)|quand (.*)(?:écrit|publié)"
        r"|cu[aá]ndo (.*)publi\w*",
    ),
    ("language", r"language"),
    ("file", r"name of (.*)file|how (?:big|large) is"),
)


THING = frozenset(
    "document documents report paper book booklet brochure text file pdf article study filing manual guide thesis "
    "publication  dokument dokuments bericht berichts buch buchs buches datei texte texts livre rapport fichier "
    "documento informe libro  archivo texto".split()
)
"""What a document may be called."""
PAPER = frozenset(
    "contract agreement lease letter policy vertrag vertrags brief contrat bail lettre contrato carta".split()
)
"""What a document may be too, or something in it."""
EMPTY = THING | frozenset(
    "à quién quiénes el il a about all an and any are as at be brief briefly can complete content contents could "
    "detailed did do does  dokuments  entire everything for from full general give given good has have here how i "
    "if in into is it its kindly list listed long made  many me my need of on or our out overall please quick quickly "
    "read reads really say  says see short shortly show simple  so some stand stands tell telling than that the "
    "their them there these  they things this those to up us was we were what  what's which who whole will with "
    "words would write written  you your contain contains year paper's report's document's  alle aller auf bitte "
    "darin das dem den der des  die diese diesem diesen dieser dieses du ein eine einem einen eines es  fasse "
    "geht gib gibt hat hier ich im  in ist kannst kurz kurze mir sie sind steht um und von was welche welchen wie "
    "worum zu au aux avec c ce  cela cet cette ces contient d dans de des dit du elle en est et fais il ils j je "
    "l la le les  liste moi peux  peut plaît pouvez qu que quel quelle quelles quels qui résumé s s'il sont sur t "
    "tous tout toutes trouve  un  une vous y a-t-il qu'y qu'est-ce ça al como con cuál cuáles da dame del dice "
    "donde ella en es esta este esto  estos eso está están favor haz hay hazme las lista lo los muestra por "
    "puedes qué se sobre son su todas todo  todos  tiene una uno".split()
)
"""Words that ask for nothing."""
EMPTY_CHINESE = re.compile(
    "[这那这个份篇本文件档报告书请用帮我给下的了吗呢啊是什么在讲有写说些吧全整体简短要列出所哪第一]+"
)
EMPTY_ARABIC = re.compile(
    "و?(?:هذا|هذه|ال)?(?:المستند|الوثيقة|التقرير|الكتاب|الملف|النص|مستند|وثيقة|تقرير|كتاب|ملف|نص)?"
    "|ما|ماذا|هو|هي|في|من|على|لي|يوجد|هل|كل|جميع|اذكر|يقول"
)

ASKED, ASKED_IF_NAMED = (
    tuple((kind, re.compile(rf"(?<![a-zà-ÿ])(?:{pattern})")) for kind, pattern in table) for table in (_SURE, _IF_NAMED)
)
"""By kind. Those of the second would go on about something else, unless the document is named: "Explain it.\""""

WHO = (
    r"(?<!\bone )(?<!\bperson )(?<!\bpeople )(?<!\bthose )\bwho(?:se|m)?\b|\bname of the (?:one|person)\b"
    r"|\bwe(?:r|m|ssen)\b"
    r"|^qui\b|\b(?:à|de|par|pour|avec) qui\b|\bqui[eé]n(?:es)?\b|^(?:da )?chi\b|\bquem\b|^wie (?:is|was|zijn"
    r"|heeft)\b|\bvem\b|\bкто\b"
    r"|\bкем\b|谁|誰|누가|누구|^من\b|^מי\b|कौन|किसने|\bποι(?:ος|α|οι)\b|ใคร"
)
WHEN = (
    r"^(?:and\s|since\s|until\s)?when\b|\b(?:since|until|by|and) when\b|\bdate of\b|\bwann\b|\bquand\b"
    r"|\bcu[aá]ndo\b|\bquando\b"
    r"|\bwanneer\b|^när\b|\bкогда\b|什么时候|何时|哪一?年|いつ|언제|متى|מתי|कब|\bπότε\b|เมื่อไ(?:ร|หร่)"
    r"|\b(?:what|which|on what|since what)\b.{0,12}\b(?:date|day|month)\b"
)
WHERE = (
    r"\bwhere\b|\bwo(?:her|hin)?\b|\boù\b|\bd[oó]nde\b|\bdove\b|\bonde\b|\bwaar\b|^var (?:ligger|bor|är|finns)\b"
    r"|\bгде\b|哪里|在哪"
    r"|どこ|어디|أين|איפה|कहाँ|\bπού\b|ที่ไหน"
)
HOW_MUCH = (
    r"\bhow (?:much|many|long|tall|high|heavy|old|far|big|large|deep|wide|fast)\b"
    r"|\bwie ?(?:viele?[ns]?|hoch|lange?|groß|schwer|alt|tief|breit|weit|teuer|schnell)\b"
    r"|\bcombien\b|\bquel âge\b|\bcu[aá]nt[oa]s?\b|\bquant[oaie]s?\b|\bhoe ?(?:veel|hoog|lang|groot|zwaar|oud"
    r"|diep|breed|ver|duur)\b"
    r"|\bhur (?:många|mycket|hög|högt|lång|långt?|stor|tung|gammal|djup|bred)\b|\bсколько\b|\bкак(?:ой|ова)"
    r" (?:высот|длин|вес|возраст|цен|площад)"
    r"|多少|多[长高大重远深宽久]|几|いくら|いくつ|何(?:メートル|キロ|人|円|個|本|歳|時間|日|分|年)|ど[のれ]くらい|얼마|몇|\bكم\b|\bכמה\b|कितन|\bπόσ|เท่าไ(?:ร|หร่)|กี่"
)
AMOUNTS = (
    r"\b(?:was|wat|vad|cosa|qué|сколько) (?:kost|costa|cuesta)|\b(?:preis|miete|gehalt|höhe|länge|breite|tiefe"
    r"|gewicht|fläche|umsatz|gewinn|anzahl|gebühr)\b"
    r"|\b(?:prix|loyer|salaire|hauteur|longueur|largeur|profondeur|poids|superficie|nombre|montant)\b"
    r"|\b(?:precio|alquiler|salario|altura|longitud|anchura|profundidad|peso|superficie|importe)\b"
    r"|高度|长度|宽度|重量|价格|费用|面积|租金|收入|年龄|高さ|長さ|重さ|価格|料金|面積|높이|길이|무게|가격|\b(?:высота|длина|вес|цена|стоимость)\b"
    r"|(?:ارتفاع|طول|وزن|سعر|عمر|عدد|مساحة|تكلفة|راتب|إيجار)"
)
"""What is asked for, by the words of questions: a name, a time, a place, an amount, and nouns that are amounts."""
MONTHS = "|".join(
    (
        r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?"
        r"|Dec(?:ember)?)\b\.?",
        "(?:Januar|Jänner|Februar|März|Mai|Juni|Juli|Oktober|Dezember)",
        "(?:janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre)",
        "(?:enero|febrero|marzo|abril|mayo|junio|julio|agosto|sep?tiembre|octubre|noviembre|diciembre)",
        "(?:gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre)",
        "(?:janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro)",
        "(?:januari|februari|maart|april|maj|mei|juni|juli|augusti|augustus|september|oktober|november|december)",
        "(?:января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря)",
        "(?:يناير|فبراير|مارس|أبريل|مايو|يونيو|يوليو|أغسطس|سبتمبر|أكتوبر|نوفمبر|ديسمبر)",
    )
)
"""As they are written within a text, by language."""
