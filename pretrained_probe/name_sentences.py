"""Plain sentences in six languages about what people are called, for prompts that ask for one of the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """What prompts of one language consist of.

    `statement` and every one of `others` (the same about somebody else) end where the name follows; `stop` ends the
    sentence. `question` is the question and the beginning of its answer, which ends where the name follows. `openings`
    begin a text, `fillers` say nothing of anybody's name. `space` stands between words and sentences.
    """

    title: str
    statement: str
    question: str
    others: tuple[str, ...]
    openings: tuple[str, ...]
    fillers: tuple[str, ...]
    names: tuple[str, ...]
    space: str = " "
    stop: str = "."


_ENGLISH = Language(
    title="English",
    statement="My name is",
    question="What is my name? Your name is",
    others=(
        "My friend's name is",
        "My neighbour's name is",
        "My teacher's name is",
        "My doctor's name is",
        "My cousin's name is",
        "My colleague's name is",
    ),
    openings=("Good morning.", "Hello.", "Nice to meet you.", "Good evening."),
    fillers=(
        "The sky is blue today.",
        "The train leaves at eight.",
        "There is a book on the table.",
        "Children play in the park.",
        "The shop is closed on Sundays.",
        "It rained all night.",
        "The window is open.",
        "The river is very long.",
        "In the evening we drink tea.",
        "The cake tastes good.",
        "The town has three bridges.",
        "The museum opens at ten.",
    ),
    names=(
        *("John", "Mary", "James", "Robert", "Michael", "William", "David", "Richard", "Joseph", "Thomas", "Charles"),
        *("Daniel", "Matthew", "Anthony", "Steven", "Paul", "Andrew", "Kevin", "Brian", "George", "Edward", "Ronald"),
        *("Jason", "Jeffrey", "Ryan", "Jacob", "Gary", "Nicholas", "Eric", "Jonathan", "Stephen", "Larry", "Justin"),
        *("Scott", "Brandon", "Benjamin", "Samuel", "Frank", "Henry", "Peter", "Patricia", "Jennifer", "Linda"),
        *("Elizabeth", "Barbara", "Susan", "Jessica", "Sarah", "Karen", "Nancy", "Lisa", "Margaret", "Sandra"),
        *("Emily", "Michelle", "Carol", "Amanda", "Laura", "Anna", "Emma", "Alice", "Jack", "Martin", "Simon", "Adam"),
    ),
)

_GERMAN = Language(
    title="German",
    statement="Mein Name ist",
    question="Wie lautet mein Name? Dein Name ist",
    others=(
        "Der Name meines Kindes ist",
        "Der Name des Kindes im Garten ist",
        "Der Name der Person am Fenster ist",
        "Der Name der Person neben mir ist",
        "Der Name meiner Begleitung ist",
        "Der Name meiner Vertretung ist",
    ),
    openings=("Guten Morgen.", "Hallo.", "Guten Tag.", "Guten Abend."),
    fillers=(
        "Der Himmel ist heute blau.",
        "Der Zug fährt um acht Uhr ab.",
        "Das Buch liegt auf dem Tisch.",
        "Im Park spielen Kinder.",
        "Der Laden ist sonntags geschlossen.",
        "Gestern hat es geregnet.",
        "Das Fenster steht offen.",
        "Der Fluss ist sehr lang.",
        "Am Abend trinken wir Tee.",
        "Der Kuchen schmeckt gut.",
        "Die Stadt hat drei Brücken.",
        "Das Museum öffnet um zehn.",
    ),
    names=(
        *("Thomas", "Peter", "Michael", "Hans", "Karl", "Anna", "Maria", "Paul", "Max", "Franz", "Otto", "Fritz"),
        *("Ernst", "Wolfgang", "Werner", "Heinrich", "Martin", "Stefan", "Johann", "Friedrich", "Wilhelm", "Klaus"),
        *("Walter", "Kurt", "Julia", "Laura", "Lena", "Emma", "Eva", "Sophie", "Felix", "Lukas", "Jan", "Tim"),
        *("Daniel", "David", "Simon", "Robert", "Richard", "Alexander", "Georg", "Jakob", "Hermann", "Rudolf"),
        *("Albert", "Erich", "Ludwig", "Johannes", "Clara", "Helga"),
    ),
)

_FRENCH = Language(
    title="French",
    statement="Mon prénom est",
    question="Quel est mon prénom ? Ton prénom est",
    others=(
        "Le prénom de mon enfant est",
        "Le prénom de l'enfant du voisin est",
        "Le prénom de la personne à la fenêtre est",
        "Le prénom de la personne à côté de moi est",
        "Le prénom de la personne au fond de la salle est",
        "Le prénom de mon élève est",
    ),
    openings=("Bonjour.", "Bonsoir.", "Salut.", "Bonjour à tous."),
    fillers=(
        "Le ciel est bleu aujourd'hui.",
        "Le train part à huit heures.",
        "Il y a un livre sur la table.",
        "Des enfants jouent dans le parc.",
        "Le magasin est fermé le dimanche.",
        "Il a plu toute la nuit.",
        "La fenêtre est ouverte.",
        "La rivière est très longue.",
        "Le soir, nous buvons du thé.",
        "Le gâteau est bon.",
        "La ville a trois ponts.",
        "Le musée ouvre à dix heures.",
    ),
    names=(
        *("Jean", "Pierre", "Paul", "Marie", "Louis", "Jacques", "Michel", "André", "François", "Claude", "Henri"),
        *("Philippe", "Charles", "Robert", "Antoine", "Marcel", "Alain", "Bernard", "Georges", "Julien", "Nicolas"),
        *("Thomas", "Martin", "Simon", "David", "Daniel", "Joseph", "Victor", "Hugo", "Lucas", "Alexandre", "Anne"),
        *("Julie", "Sophie", "Claire", "Alice", "Emma", "Jeanne", "Camille", "Laura", "Sarah", "Maurice", "Roger"),
        *("Guillaume", "Denis", "Vincent", "René"),
    ),
)

_SPANISH = Language(
    title="Spanish",
    statement="Mi nombre es",
    question="¿Cuál es mi nombre? Tu nombre es",
    others=(
        "El nombre de mi colega es",
        "El nombre de mi dentista es",
        "El nombre de mi asistente es",
        "El nombre de mi estudiante es",
        "El nombre de la persona junto a la ventana es",
        "El nombre de la persona a mi lado es",
    ),
    openings=("Buenos días.", "Hola.", "Buenas tardes.", "Buenas noches."),
    fillers=(
        "El cielo está azul hoy.",
        "El tren sale a las ocho.",
        "Hay un libro sobre la mesa.",
        "Los niños juegan en el parque.",
        "La tienda cierra los domingos.",
        "Llovió toda la noche.",
        "La ventana está abierta.",
        "El río es muy largo.",
        "Por la tarde tomamos té.",
        "El pastel está rico.",
        "La ciudad tiene tres puentes.",
        "El museo abre a las diez.",
    ),
    names=(
        *("Juan", "José", "Carlos", "Luis", "Pedro", "Antonio", "Manuel", "Francisco", "Miguel", "Jorge", "Fernando"),
        *("Rafael", "Alberto", "Diego", "Pablo", "Mario", "Javier", "Alejandro", "David", "Daniel", "Ricardo"),
        *("Roberto", "Andrés", "Martín", "Sergio", "Ramón", "Ana", "María", "Carmen", "Isabel", "Laura", "Elena"),
        *("Julia", "Eva", "Rosa", "Marta", "Lucía", "Sara", "Teresa", "Clara", "Enrique", "Felipe", "Alfonso"),
        *("Eduardo", "Alfredo", "Gabriel", "Tomás"),
    ),
)

_ITALIAN = Language(
    title="Italian",
    statement="Il mio nome è",
    question="Qual è il mio nome? Il tuo nome è",
    others=(
        "Il nome dell'insegnante di musica è",
        "Il nome dell'assistente del medico è",
        "Il nome dell'ospite è",
        "Il nome della persona alla finestra è",
        "Il nome della persona accanto a me è",
        "Il nome della guida è",
    ),
    openings=("Buongiorno.", "Ciao.", "Buonasera.", "Piacere di conoscerti."),
    fillers=(
        "Oggi il cielo è blu.",
        "Il treno parte alle otto.",
        "C'è un libro sul tavolo.",
        "I bambini giocano nel parco.",
        "Il negozio è chiuso la domenica.",
        "Ha piovuto tutta la notte.",
        "La finestra è aperta.",
        "Il fiume è molto lungo.",
        "La sera beviamo il tè.",
        "La torta è buona.",
        "La città ha tre ponti.",
        "Il museo apre alle dieci.",
    ),
    names=(
        *("Marco", "Giovanni", "Giuseppe", "Antonio", "Francesco", "Luigi", "Andrea", "Paolo", "Carlo", "Mario"),
        *("Roberto", "Pietro", "Franco", "Stefano", "Luca", "Alessandro", "Matteo", "Lorenzo", "Giorgio", "Alberto"),
        *("Davide", "Maria", "Anna", "Laura", "Giulia", "Sara", "Elena", "Chiara", "Francesca", "Paola", "Emma"),
        *("Sofia", "Martina", "Bruno", "Enrico", "Vincenzo", "Angelo", "Nicola", "Federico", "Riccardo", "Leonardo"),
        *("Michele", "Simone", "Alice", "Clara", "Lucia", "Rosa", "Daniele"),
    ),
)

_CHINESE = Language(
    title="Chinese",
    statement="我姓",
    question="我姓什么？你姓",
    others=("我的朋友姓", "我的邻居姓", "我的老师姓", "我的同事姓", "我的医生姓", "我的同学姓"),
    openings=("你好。", "早上好。", "大家好。", "晚上好。"),
    fillers=(
        "今天的天空很蓝。",
        "火车八点开。",
        "桌上有一本书。",
        "孩子们在公园里玩。",
        "商店星期天不开门。",
        "昨天下雨了。",
        "窗户开着。",
        "这条河很长。",
        "晚上我们喝茶。",
        "这个蛋糕很好吃。",
        "城里有三座桥。",
        "博物馆十点开门。",
    ),
    names=tuple("王李张刘陈杨黄赵吴徐孙朱胡郭罗郑梁宋唐韩冯邓曹彭肖董袁潘蔡蒋杜苏魏吕丁沈"),
    space="",
    stop="。",
)

LANGUAGES: Mapping[str, Language] = {
    "en": _ENGLISH,
    "de": _GERMAN,
    "fr": _FRENCH,
    "es": _SPANISH,
    "it": _ITALIAN,
    "zh": _CHINESE,
}
"""By ISO 639-1 code. The names of `zh` are surnames of one character and follow without a space."""
