"""Small numbers in words, in English, German, French, Spanish and Chinese."""

NUMBER_WORDS: dict[str, int] = {
    word: int(number)
    for row in (
        "0 zero null nul cero 零 〇",
        "1 one eins un uno 一",
        "2 two zwei deux dos 二",
        "3 three drei trois tres 三",
        "4 four vier quatre cuatro 四",
        "5 five fünf cinq cinco 五",
        "6 six sechs seis 六",
        "7 seven sieben sept siete 七",
        "8 eight acht huit ocho 八",
        "9 nine neun neuf nueve 九",
        "10 ten zehn dix diez 十",
        "11 eleven elf onze once",
        "12 twelve zwölf douze doce",
        "13 thirteen dreizehn treize trece",
        "14 fourteen vierzehn quatorze catorce",
        "15 fifteen fünfzehn quinze quince",
        "16 sixteen sechzehn seize",
        "17 seventeen siebzehn",
        "18 eighteen achtzehn",
        "19 nineteen neunzehn",
        "20 twenty zwanzig vingt veinte",
        "30 thirty dreißig trente treinta",
        "40 forty vierzig quarante cuarenta",
        "50 fifty fünfzig cinquante cincuenta",
        "60 sixty sechzig soixante sesenta",
        "70 seventy siebzig setenta",
        "80 eighty achtzig ochenta",
        "90 ninety neunzig noventa",
        "100 hundred hundert cent cien",
        "1000 thousand tausend mille mil",
        "1000000 million millions millionen millones",
        "1000000000 billion billions",
    )
    for number, *words in [row.split()]
    for word in words
}
"""By word in lower case."""
