"""First and last names for generated users."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _names("""
Aaliyah Adaeze Adrián Agnieszka Aiko Aisha Alejandra Alma Amara Amir Amélie Ananya Anders Anna
Anselm Antonio Arjun Astrid Ayşe Beatriz Benedikt Björn Bruno Camila Carmen Catarina Chiara
Chinedu Clara Cécile Daniel Daria Dawit Deepika Diego Dmitri Ebba Elena Elif Elise Emeka Emilia
Enzo Esther Eva Fatima Felix Femi Fiona Florian Freya Gabriel Giulia Grace Greta Hana Haruto
Hassan Hedda Hiroshi Hugo Hélène Ibrahim Ida Imani Ines Ingrid Isaac Isabela Ivan Jakub Jana
Jasmin Javier Jin Johanna Jonas João Julia Kamala Karim Katarzyna Kenji Kofi Lakshmi Lars Layla
Leila Leo Liam Lina Linh Lucía Luis Magnus Mai Malik Manon Marek María Mateo Matilda Mehmet Mei
Mira Mohammed Nadia Naomi Ngozi Nia Nikolai Nina Noah Noor Olga Oliver Omar Oscar Pablo Paula
Petra Pilar Priya Quentin Rafael Rahul Rania Renée Rosa Ruth Salma Samuel Sanjay Sara Sebastián
Selin Sergei Shirin Siobhán Sofia Sunita Tamar Tariq Thandiwe Théo Tomasz Uma Valentina Vera
Viktor Wanjiru Wei Xavier Yara Yasmin Yuki Yusuf Zainab Zara Zoë Zuzana
""")

LAST_NAMES = _names("""
Abebe Achterberg Adeyemi Aguilar Ahmed Almeida Andersson Bauer Becker Bergström Bianchi Blanchard
Boateng Brandt Chatterjee Chen Chukwu Costa Dahl Demir Desai Diallo Dubois Dupont Eklund Eriksen
Esposito Farah Fernández Ferrari Fischer Fontaine Fournier Fujimoto García González Greco Gómez
Haddad Hakimi Hansen Haugen Hernández Hoffmann Horváth Hussain Ibrahim Ito Ivanova Jansson Jimenez
Johansson Kamau Kapoor Katz Keller Khan Kim Kimura Kovács Kowalski Krüger Kumar Lam Lange Laurent
Leclerc Lehmann Lima Lindqvist López Mahlangu Marino Martin Mendes Mensah Mercier Meyer Moreau
Moreno Murakami Mwangi Müller Nakamura Navarro Ndiaye Neumann Nguyen Nkosi Novák Nwosu O'Brien
O'Neill Obi Okafor Oliveira Olsen Ortega Osei Owusu Papadakis Park Patel Pereira Petrov Phiri
Popescu Quispe Rahman Ramírez Rao Reyes Ricci Rojas Romano Rossi Roux Ruiz Saito Santos Schmidt
Schreiber Sharma Silva Simões Singh Sithole Sokolov Sousa Suzuki Svensson Sørensen Tanaka Tran
Traoré Tshabalala Varga Vargas Vasquez Vidal Vogel Wagner Wanjala Watanabe Weber Yamamoto Yang
Zhang Zhou Zielinski Zimmermann Çelik Şahin
""")
